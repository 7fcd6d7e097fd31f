"""The sealed forecast of a pretraining run's held-out loss, as a file: the ladder writes it, the gate and the card read it."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, model_validator

from modelyard.config import Config
from modelyard.formats import json_file

FILE = "forecast.json"


class LadderRun(Config):
    """One small run."""

    compute: float
    """Training FLOPs."""
    loss: float
    """Held-out loss, nats a token."""


class LargestRun(Config):
    """The largest of the small runs, predicted from the others."""

    compute: float
    """Training FLOPs."""
    predicted: float
    """Loss by the law fitted without it."""
    measured: float
    """Its loss."""
    error: float
    """predicted / measured - 1."""


class SealedForecast(Config):
    """A prediction with its 95% interval and the law L(C) = a C^b + c behind it."""

    prediction: float
    """Held-out loss, nats a token."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end."""
    a: float
    """Scale of the law."""
    b: float
    """Exponent of the compute."""
    c: float
    """Loss that no compute removes."""
    at_compute: float
    """FLOPs of the run that is predicted."""
    backtest: LargestRun | None
    """None where fewer than three runs are left without the largest."""
    steepening: float
    """How probable runs as bent as these are where the law holds."""
    objection: str
    """Why the law does not hold for these runs; empty where nothing is to be seen."""
    points: tuple[LadderRun, ...]
    """The small runs."""

    @model_validator(mode="after")
    def _in_order(self) -> SealedForecast:
        if not self.low <= self.prediction <= self.high:
            raise ValueError(f"prediction {self.prediction} lies outside its interval [{self.low}, {self.high}]")
        return self


def read_forecast(directory: Path) -> SealedForecast:
    """The forecast of an artifact. Raises ValueError naming the file that is missing or damaged, and the key."""
    return json_file.read(directory / FILE, TypeAdapter(SealedForecast))


def write_forecast(directory: Path, forecast: SealedForecast) -> None:
    """:func:`read_forecast`'s file."""
    (directory / FILE).write_text(forecast.model_dump_json(indent=1) + "\n", "utf-8")
