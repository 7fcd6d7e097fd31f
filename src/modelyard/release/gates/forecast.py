"""The gate over what was predicted of the base model before it was trained: its loss, and what it can do. Pure.

A miss HOLDs: something is not understood, and somebody has to look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby
from typing import NamedTuple

from modelyard.formats.forecast import SealedBucket, SealedForecast, came_out
from modelyard.formats.results import Results
from modelyard.release.gates.gate import Evidence, Gate, RefusedError, number
from modelyard.release.limits import ReleaseConfig

BASE = "base"
"""The model that is forecast, by its name in results."""


def forecast_gate(evidence: Evidence, config: ReleaseConfig) -> Gate:
    """Loss and right answers came out as the forecast said, which was of this very run and sealed before it started."""
    forecast = evidence.forecast
    if forecast is None and config.set_aside.forecast:
        return Gate(name="forecast", verdict="PROMOTE", reason=config.set_aside.forecast, metrics={}, set_aside=True)
    if forecast is None:
        raise RefusedError("forecast is missing")
    require_sealed_for(forecast, evidence)
    loss = number(evidence.final_loss, "final validation loss")
    error = forecast.prediction / loss - 1
    good = abs(error) <= config.forecast_tolerance
    said = f"forecast {_interval(forecast)} against loss {loss:.4f}: {error:+.2%}, {_side(forecast, loss)} its interval"
    reasons = [said + ("" if good else f", more than {config.forecast_tolerance:.1%}"), *filter(None, [forecast.objection])]
    metrics = {"release/forecast/prediction": forecast.prediction, "release/forecast/loss": loss, "release/forecast/error": error}
    for name, buckets in groupby(judged(forecast, evidence.results), key=lambda one: one.bucket.benchmark):
        claimed = [one for one in buckets if not one.bucket.objection]
        missed = [one for one in claimed if not one.inside]
        metrics |= {f"release/forecast/{name}/claimed": float(len(claimed)), f"release/forecast/{name}/missed": float(len(missed))}
        reasons += [f"{name}: {len(claimed) - len(missed)} of {len(claimed)} buckets inside their intervals", *map(_miss, missed)]
        good = good and not missed
    return Gate(name="forecast", verdict="PROMOTE" if good else "HOLD", reason="; ".join(reasons), metrics=metrics)


def require_sealed_for(forecast: SealedForecast, evidence: Evidence) -> None:
    """Raise RefusedError unless the forecast is of the base model's run, and was sealed before it began."""
    if evidence.base is None:
        raise RefusedError("record of the base model's run is missing")
    sealed = number(evidence.sealed_at, "time of the forecast's seal")
    started = number(evidence.base.get("started"), "start of the base model")
    if not sealed <= started:
        raise RefusedError(f"forecast was sealed {sealed - started:.0f} s after the base model's training began")
    at, flops = forecast.at_compute, number(evidence.base.get("flops"), "compute of the base model")
    if not math.isclose(at, flops, rel_tol=1e-6):
        raise RefusedError(f"forecast is for {at:.4g} FLOPs, but the base model took {flops:.4g}")


class Judged(NamedTuple):
    """A bucket's forecast, and -E[log pass rate] of the base model on its problems, nats."""

    bucket: SealedBucket
    measured: float

    @property
    def inside(self) -> bool:
        """Whether the interval covers what was measured."""
        return self.bucket.low <= self.measured <= self.bucket.high


def judged(forecast: SealedForecast, results: Results) -> list[Judged]:
    """Every bucket beside what the results say of it. Raises RefusedError where the base model was not asked one of its problems."""
    try:
        return [Judged(one, came_out(one, nats_of(results, one.benchmark))) for one in forecast.buckets]
    except ValueError as error:
        raise RefusedError(str(error)) from None


def nats_of(results: Results, benchmark: str) -> Mapping[str, float]:
    """Item -> -log of the probability that the base model gives its right answer."""
    rows = results.of(BASE).get(benchmark, ())
    return {str(row["item"]): row["values"]["nats"] for row in rows if "nats" in row.get("values", {})}


def _interval(one: SealedForecast | SealedBucket) -> str:
    return f"{one.prediction:.4f} [{one.low:.4f}, {one.high:.4f}]"


def _side(one: SealedForecast | SealedBucket, measured: float) -> str:
    return "inside" if one.low <= measured <= one.high else "outside"


def _miss(one: Judged) -> str:
    return f"bucket {one.bucket.bucket + 1} of {one.bucket.benchmark}: forecast {_interval(one.bucket)}, measured {one.measured:.4f}"
