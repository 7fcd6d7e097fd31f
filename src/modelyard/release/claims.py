"""What a release was held to, one number each: the sealed forecast, and the absolute limits of its gates.

A claim compares one observed number with one threshold, so that other tools can hold it too (:mod:`modelyard.adapters.prml`). Left out: the paired
tests against production and base model, which compare items and have no threshold of their own, and rises over another model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from modelyard.formats.forecast import SealedForecast
from modelyard.formats.results import Results
from modelyard.release.limits import LineDecision
from modelyard.stats.estimate import Estimate
from modelyard.stats.misclassification import corrected
from modelyard.store.manifest import Artifact


class Claim(NamedTuple):
    """One number and what it must be."""

    name: str
    """Of its file: letters, digits, dots, dashes."""
    metric: str
    comparator: str
    threshold: float
    dataset: str
    """What it is measured on."""
    content: str
    """sha256 (hex) of that, 64 digits."""
    fixed: float
    """When the claim was committed, seconds since 1970."""
    notes: str
    observed: float | None
    """None where the release did not measure it."""


LIMIT = (
    "Limit of release gate {gate}. Committed with the decision, which follows the measurement: "
    "it shows what was asked, not that it was asked before."
)


CORRECTED = ", corrected by the error of what judges replies"


def of_release(
    rules: LineDecision,
    decided: Artifact,
    results: Results,
    benchmarks: Artifact,
    sealed: tuple[Artifact, SealedForecast] | None,
    tokens: Artifact,
) -> Iterator[Claim]:
    """The claims of a decision; ``sealed`` is its forecast, on the held-out rows of ``tokens``."""
    if sealed is not None:
        yield of_forecast(rules, *sealed, results.metrics, tokens)
    begun = decided.started or 0.0

    def limit(gate: str, key: str, comparator: str, threshold: float, end: str) -> Claim:
        found: Estimate | None = results.metrics.get(f"evals/policy/{key}")
        name, _, of = key.partition("/")
        error = results.benchmarks[name].judge_errors.get(of) if name in results.benchmarks else None
        found = corrected(found, error) if found and error else found
        what = f"{name} {results.benchmarks[name].id}" if name in results.benchmarks else name
        metric = f"policy/{key}, {end} end of the 95% interval{CORRECTED if error else ''}"
        observed = getattr(found, "high" if end == "upper" else "low") if found else None
        bound = "max" if end == "upper" else "min"
        file = f"{gate}-{key.replace('/', '-')}-{bound}"
        return Claim(file, metric, comparator, threshold, what, benchmarks.content, begun, LIMIT.format(gate=gate), observed)

    yield limit("preference", f"{rules.preference}/win_rate_over_sft", ">", rules.min_win_rate, "lower")
    yield limit("preference", f"{rules.preference}/kl_to_sft", "<=", rules.max_kl, "upper")
    for name in rules.calibration:
        yield limit("calibration", f"{name}/calibration_error", "<=", rules.max_calibration_error, "upper")
    for name, own in rules.limits.items():
        if own.gated:
            yield from (limit("limits", f"{name}/{key}", "<=", most, "upper") for key, most in own.max.items())
            yield from (limit("limits", f"{name}/{key}", ">=", least, "lower") for key, least in own.min.items())


def of_forecast(rules: LineDecision, made: Artifact, forecast: SealedForecast, metrics: Mapping[str, Estimate], tokens: Artifact) -> Claim:
    """The base model's loss comes out as was forecast."""
    loss = metrics.get("evals/base/validation_loss/loss")
    notes = (
        f"Sealed forecast {made.ref}: {forecast.prediction:.6g} nats a token [{forecast.low:.6g}, {forecast.high:.6g}] at "
        f"{forecast.at_compute:.6g} FLOP; manifest sha256 {made.manifest}. Its gate blocks a release whose base model was begun before the seal."
    )
    return Claim(
        "forecast",
        "|forecast / held-out loss of the base model - 1|",
        "<=",
        rules.forecast_tolerance,
        f"held-out rows of {tokens.ref}",
        tokens.content,
        made.finished or 0.0,
        notes,
        abs(forecast.prediction / loss.value - 1) if loss else None,
    )
