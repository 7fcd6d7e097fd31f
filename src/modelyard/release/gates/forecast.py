"""The gate over what was predicted of the base model before it was trained: its loss, and what it can do. Pure.

A miss HOLDs: something is not understood, and somebody has to look. Buckets of right answers are many claims at once, so the intervals of those
that claim a law are widened until all of them together cover 95 times in 100 (Bonferroni, as of normal deviates).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby
from statistics import NormalDist
from typing import NamedTuple

from modelyard.formats.forecast import SealedBucket, SealedForecast, came_out
from modelyard.formats.results import Results
from modelyard.release.gates.gate import Evidence, Gate, RefusedError, number
from modelyard.release.limits import ReleaseConfig
from modelyard.stats.estimate import Z95

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
    side = "inside" if forecast.low <= loss <= forecast.high else "outside"
    interval = f"[{forecast.low:.4f}, {forecast.high:.4f}]"
    said = f"forecast {forecast.prediction:.4f} {interval} against loss {loss:.4f}: {error:+.2%}, {side} its interval"
    reasons = [said + ("" if good else f", more than {config.forecast_tolerance:.1%}"), *filter(None, [forecast.objection])]
    metrics = {"release/forecast/prediction": forecast.prediction, "release/forecast/loss": loss, "release/forecast/error": error}
    for name, buckets in groupby(judged(forecast, evidence.results), key=lambda one: one.bucket.benchmark):
        claimed = [one for one in buckets if one.claims]
        missed = [one for one in claimed if not one.inside]
        metrics |= {f"release/forecast/{name}/claimed": float(len(claimed)), f"release/forecast/{name}/missed": float(len(missed))}
        came_true = f"{len(claimed) - len(missed)} of {len(claimed)} buckets as forecast" if claimed else "no bucket follows a law"
        reasons += [f"{name}: {came_true}", *map(_miss, missed)]
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
    """A bucket's forecast with the interval that it is judged by, and -E[log pass rate] of the base model on its problems, nats."""

    bucket: SealedBucket
    low: float
    high: float
    measured: float

    @property
    def claims(self) -> bool:
        """Whether a law was claimed for it."""
        return not self.bucket.objection

    @property
    def inside(self) -> bool:
        """Whether the interval covers what was measured."""
        return self.low <= self.measured <= self.high


def judged(forecast: SealedForecast, results: Results) -> list[Judged]:
    """Every bucket beside what the results say of it. Raises RefusedError where the base model was not asked one of its problems."""
    claims = max(1, sum(not one.objection for one in forecast.buckets))
    wider = NormalDist().inv_cdf(1 - 0.025 / claims) / Z95
    try:
        measured = [came_out(one, nats_of(results, one.benchmark)) for one in forecast.buckets]
    except ValueError as error:
        raise RefusedError(str(error)) from None
    return [
        Judged(one, one.prediction - wider * (one.prediction - one.low), one.prediction + wider * (one.high - one.prediction), found)
        for one, found in zip(forecast.buckets, measured, strict=True)
    ]


def nats_of(results: Results, benchmark: str) -> Mapping[str, float]:
    """Item -> -log of the probability that the base model gives its right answer."""
    rows = results.of(BASE).get(benchmark, ())
    return {str(row["item"]): row["values"]["nats"] for row in rows if "nats" in row.get("values", {})}


def _miss(one: Judged) -> str:
    place = f"bucket {one.bucket.bucket + 1} of {one.bucket.benchmark}"
    return f"{place}: forecast {one.bucket.prediction:.4f} [{one.low:.4f}, {one.high:.4f}], measured {one.measured:.4f}"
