"""The sealed forecast of a pretraining run, its held-out loss and what it can do, as a file: the ladder writes it, the gate and the card read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, TypeAdapter, model_validator

from modelyard.config import Config
from modelyard.formats import json_file

FILE = "forecast.json"


class LadderRun(Config):
    """One small run."""

    compute: float
    """Training FLOPs."""
    loss: float
    """Held-out loss, nats a token; of a bucket -E[log pass rate], nats."""


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


class Predicted(Config):
    """A prediction with its 95% interval and the law L(C) = a C^b + c behind it."""

    prediction: float
    """Held-out loss, nats a token; of a bucket -E[log pass rate], nats."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end."""
    a: float
    """Scale of the law."""
    b: float
    """Exponent of the compute."""
    c: float
    """What no compute removes."""
    objection: str
    """Why the law does not hold for these runs; empty where nothing is to be seen."""
    points: tuple[LadderRun, ...]
    """The small runs."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low <= self.prediction <= self.high:
            raise ValueError(f"prediction {self.prediction} lies outside its interval [{self.low}, {self.high}]")
        return self


class SealedBucket(Predicted):
    """What is said of a benchmark's problems of like difficulty (:mod:`modelyard.scaling.capability`)."""

    benchmark: str
    """last_word..."""
    bucket: int
    """0 is the easiest."""
    problems: tuple[str, ...] = Field(min_length=1)
    """Ids of its items."""


class SealedForecast(Predicted):
    """The prediction of the loss, and of what the run can do."""

    at_compute: float
    """FLOPs of the run that is predicted."""
    backtest: LargestRun | None
    """None where fewer than three runs are left without the largest."""
    steepening: float
    """How probable runs as bent as these are where the law holds."""
    buckets: tuple[SealedBucket, ...] = ()
    """Of the benchmarks that the small runs were asked."""


def came_out(bucket: SealedBucket, nats: Mapping[str, float]) -> float:
    """-E[log pass rate] of the bucket's problems; ``nats``: problem -> -log of the probability of its right answer.

    Raises ValueError where a problem was not asked.
    """
    if missing := [problem for problem in bucket.problems if problem not in nats]:
        raise ValueError(f"{bucket.benchmark}: item {missing[0]}, which the forecast is of, was not asked")
    return sum(nats[problem] for problem in bucket.problems) / len(bucket.problems)


def read_forecast(directory: Path) -> SealedForecast:
    """The forecast of an artifact. Raises ValueError naming the file that is missing or damaged, and the key."""
    return json_file.read(directory / FILE, TypeAdapter(SealedForecast))


def write_forecast(directory: Path, forecast: SealedForecast) -> None:
    """:func:`read_forecast`'s file."""
    (directory / FILE).write_text(forecast.model_dump_json(indent=1) + "\n", "utf-8")
