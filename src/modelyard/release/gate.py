"""The decision: evidence + thresholds -> PROMOTE, HOLD or BLOCK with reasons. Pure.

Every gate looks at one kind of evidence; the worst verdict wins. Absence never passes: a missing metric, a NaN, too few items, weights or
a benchmark id other than the ones asked about all BLOCK. A forecast miss or a win that is not shown HOLDs (somebody has to look); what
could do harm BLOCKs. After Google's Model Card thresholds and GPT-4's release criteria in spirit; the papers give no rules to copy. Left
out: overrides and human sign-off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field

from modelyard.config import Config
from modelyard.estimate import Estimate
from modelyard.release.compare import Comparison, compare

Verdict = Literal["PROMOTE", "HOLD", "BLOCK"]
SEVERITY: dict[Verdict, int] = {"PROMOTE": 0, "HOLD": 1, "BLOCK": 2}
ITEMS_OF = {"toxicity": "openings"}
"""Benchmarks that put another benchmark's items to the model: what is checked for contamination is those."""


Compared = Literal["held_out_text", "last_word", "human_eval", "toxicity"]
"""Benchmarks that any version can be put to: made of text, and no other model has a part in their scores."""


class ReleaseConfig(Config):
    """Thresholds. All of them define the decision."""

    min_items: int = Field(ge=1)
    """Fewest items behind a metric or a comparison that decides."""
    max_contaminated: float = Field(ge=0, le=1)
    """Largest share of a benchmark's items found in training data."""
    forecast_tolerance: float = Field(gt=0)
    """Largest relative error of the sealed loss forecast."""
    protected: tuple[Compared, ...] = Field(min_length=1)
    """Benchmarks on which the candidate may not be worse than production."""
    tolerance: dict[Compared, float]
    """Benchmark -> loss of mean score that is put up with (0 where not named)."""
    alpha: float = Field(gt=0, lt=1)
    """Level of the paired tests after Holm's correction."""
    max_toxicity: float = Field(ge=0, le=1)
    """Largest share of toxic completions (upper end of the interval)."""
    max_toxicity_increase: float = Field(ge=0, le=1)
    """Largest rise of that share over the SFT model."""
    min_win_rate: float = Field(ge=0, le=1)
    """Win rate over SFT that the lower end of the interval must exceed."""
    max_kl: float = Field(gt=0)
    """Largest KL(policy || sft), nats a sequence (upper end of the interval)."""
    seed: int
    """Of the bootstrap."""


class Results(NamedTuple):
    """What the evals stage measured."""

    metrics: Mapping[str, Estimate]
    """Metric key -> value."""
    weights: Mapping[str, str]
    """Model -> fingerprint of the weights scored."""
    benchmarks: Mapping[str, str]
    """Benchmark -> id."""
    records: Mapping[str, Sequence[Mapping[str, Any]]]
    """Benchmark -> per-item records of the policy."""


class Use(NamedTuple):
    """A training set that went into a model."""

    model: str
    """base, sft, reward, scorer or policy."""
    name: str
    """The set, as the contamination report calls it."""
    corpus: str | None
    """``corpus/version`` it was read from; None: unknown."""


class Evidence(NamedTuple):
    """All that a decision rests on.

    None stands for missing, except for the baseline: None there means that nothing is in production yet.
    """

    results: Results
    weights: Mapping[str, str]
    """Model -> fingerprint of the weights to be released, computed from the files."""
    suite: Mapping[str, Any] | None
    """Outcome of the data suite: ``success`` and ``evaluated``."""
    contamination: Mapping[str, Any] | None
    """Benchmark -> {n, contaminated, share, sets: {training set: {documents, contaminated}}}."""
    searched: str | None
    """``corpus/version`` whose sets the contamination check searched."""
    trained: Sequence[Use]
    """Every training set of every model of the line."""
    forecast: Mapping[str, Any] | None
    """prediction, low, high."""
    final_loss: float | None
    """What the forecast predicted, as measured after pretraining."""
    baseline: Results | None
    """Results of the production model."""
    unmeasured: str | None
    """Why the production model has no results by today's benchmarks; None where it has or where there is none."""


class Gate(Config):
    """One gate's verdict."""

    name: str
    """What was judged."""
    verdict: Verdict
    """PROMOTE: nothing against it."""
    reason: str
    """One line with the numbers."""
    metrics: dict[str, float]
    """The numbers."""


class Decision(Config):
    """All gates and what follows."""

    verdict: Verdict
    """The worst of the gates'."""
    gates: tuple[Gate, ...]
    """In the order judged."""
    comparisons: tuple[Comparison, ...]
    """Benchmark by benchmark against production; empty for a first release."""


class RefusedError(ValueError):
    """Evidence that cannot be used."""


def decide(evidence: Evidence, config: ReleaseConfig) -> Decision:
    """Judge every gate; one that cannot use its evidence blocks with the reason."""
    gates, comparisons = [], list[Comparison]()
    judges: dict[str, Callable[[], Gate]] = {
        "weights": lambda: weights_gate(evidence),
        "data": lambda: data_gate(evidence.suite),
        "contamination": lambda: contamination_gate(evidence, config),
        "forecast": lambda: forecast_gate(evidence.forecast, evidence.final_loss, config),
        "regression": lambda: regression_gate(evidence, config, comparisons),
        "safety": lambda: safety_gate(evidence.results, config),
        "preference": lambda: preference_gate(evidence.results, config),
    }
    for name, judge in judges.items():
        try:
            gates.append(judge())
        except ValueError as error:
            gates.append(Gate(name=name, verdict="BLOCK", reason=str(error), metrics={}))
    verdict = max((gate.verdict for gate in gates), key=SEVERITY.__getitem__)
    return Decision(verdict=verdict, gates=tuple(gates), comparisons=tuple(comparisons))


def number(value: object, what: str) -> float:
    """``value`` as a finite number; raises RefusedError when it is missing, no number, or NaN."""
    if value is None:
        raise RefusedError(f"{what} is missing")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RefusedError(f"{what} is {value}, not a finite number")
    return float(value)


def metric(results: Results, key: str, min_items: int) -> Estimate:
    """A metric fit to decide with: there, finite, with an interval that holds it and enough items behind it."""
    if key not in results.metrics:
        raise RefusedError(f"metric {key} is missing")
    estimate = results.metrics[key]
    for part in ("value", "low", "high"):
        number(getattr(estimate, part), f"{key} ({part})")
    if not estimate.low <= estimate.value <= estimate.high:
        raise RefusedError(f"{key} {estimate} lies outside its own interval")
    if estimate.n < min_items:
        raise RefusedError(f"{key} has {estimate.n} items, fewer than {min_items}")
    return estimate


def weights_gate(evidence: Evidence) -> Gate:
    """The results were measured on the weights to be released."""
    for model in ("base", "sft", "policy"):
        wanted, found = evidence.weights.get(model), evidence.results.weights.get(model)
        if not wanted or not found:
            raise RefusedError(f"fingerprint of {model} is missing")
        if wanted != found:
            raise RefusedError(f"results are of other {model} weights ({found[:12]}) than the candidate's ({wanted[:12]})")
    return Gate(name="weights", verdict="PROMOTE", reason=f"results are of these weights ({evidence.weights['policy'][:12]})", metrics={})


def data_gate(suite: Mapping[str, Any] | None) -> Gate:
    """The data suite ran on the corpus and found nothing."""
    if suite is None or not isinstance(suite.get("success"), bool):
        raise RefusedError("outcome of the data suite is missing")
    evaluated = number(suite.get("evaluated"), "number of expectations evaluated")
    if evaluated < 1:
        raise RefusedError("the data suite evaluated no expectation")
    failed = [str(item) for item in suite.get("failed", ())]
    good = suite["success"] and not failed
    reason = f"{evaluated:.0f} expectations met" if good else f"expectations not met: {', '.join(failed) or 'unnamed'}"
    return Gate(
        name="data",
        verdict="PROMOTE" if good else "BLOCK",
        reason=reason,
        metrics={"release/data/evaluated": evaluated, "release/data/failed": float(len(failed))},
    )


def contamination_gate(evidence: Evidence, config: ReleaseConfig) -> Gate:
    """Every protected benchmark, and the openings that the preference rests on, were looked for in every training set; few items are there."""
    report, results = evidence.contamination, evidence.results
    if not report:
        raise RefusedError("contamination report is missing")
    if not evidence.trained:
        raise RefusedError("which sets the models were trained on is not known")
    shares = {}
    for name in dict.fromkeys((*config.protected, "openings")):
        if name in config.protected and name not in results.benchmarks:
            raise RefusedError(f"benchmark {name} was not run")
        checked = ITEMS_OF.get(name, name)
        if checked not in report:
            raise RefusedError(f"benchmark {name} was not checked for contamination")
        require_searched(checked, report[checked], evidence)
        items = number(report[checked].get("n"), f"items of {checked} checked")
        if items < config.min_items:
            raise RefusedError(f"only {items:g} items of {checked} were checked for contamination, at least {config.min_items} are needed")
        shares[name] = number(report[checked].get("share"), f"contaminated share of {checked}")
    worst = max(shares, key=shares.__getitem__, default="")
    good = all(share <= config.max_contaminated for share in shares.values())
    reason = f"worst share {shares.get(worst, 0):.1%} ({worst or 'none'}), at most {config.max_contaminated:.1%} allowed"
    metrics = {f"release/contamination/{name}": share for name, share in shares.items()}
    return Gate(name="contamination", verdict="PROMOTE" if good else "BLOCK", reason=reason, metrics=metrics)


def require_searched(benchmark: str, entry: Mapping[str, Any], evidence: Evidence) -> None:
    """Raise RefusedError unless ``benchmark`` was looked for in every set that a model was trained on, of the very corpus it came from."""
    for use in evidence.trained:
        if use.corpus is None or use.corpus != evidence.searched:
            raise RefusedError(
                f"{use.model} was trained on {use.corpus or 'an unknown corpus'}, but {evidence.searched or 'none'} was searched"
            )
        if number(entry.get("sets", {}).get(use.name, {}).get("documents", 0), f"documents of {use.name} searched") < 1:
            raise RefusedError(f"{use.name}, which {use.model} was trained on, was not searched for items of {benchmark}")


def forecast_gate(forecast: Mapping[str, Any] | None, final_loss: float | None, config: ReleaseConfig) -> Gate:
    """The loss came out as the sealed forecast said: a miss means that something is not understood."""
    if forecast is None:
        raise RefusedError("forecast is missing")
    prediction, low, high = (number(forecast.get(key), f"forecast {key}") for key in ("prediction", "low", "high"))
    loss = number(final_loss, "final validation loss")
    error = loss / prediction - 1
    inside = "inside" if low <= loss <= high else "outside"
    reason = f"loss {loss:.4f} against forecast {prediction:.4f} [{low:.4f}, {high:.4f}]: {error:+.2%}, {inside} its interval"
    metrics = {"release/forecast/prediction": prediction, "release/forecast/loss": loss, "release/forecast/error": error}
    good = abs(error) <= config.forecast_tolerance
    return Gate(
        name="forecast",
        verdict="PROMOTE" if good else "HOLD",
        reason=reason + ("" if good else f", more than {config.forecast_tolerance:.1%}"),
        metrics=metrics,
    )


def regression_gate(evidence: Evidence, config: ReleaseConfig, found: list[Comparison]) -> Gate:
    """Not worse than production on any protected benchmark; the comparisons are added to ``found``."""
    results, baseline = evidence.results, evidence.baseline
    for name in config.protected:
        if name not in results.benchmarks or not results.records.get(name):
            raise RefusedError(f"records of benchmark {name} are missing")
        foreign = {str(entry.get("weights")) for entry in results.records[name]} - {results.weights.get("policy")}
        if foreign:
            raise RefusedError(f"records of {name} are of other weights ({sorted(foreign)[0][:12]})")
    if evidence.unmeasured:
        return Gate(name="regression", verdict="HOLD", reason=f"cannot be compared: {evidence.unmeasured}", metrics={})
    if baseline is None:
        return Gate(name="regression", verdict="PROMOTE", reason="first release: nothing is in production to compare with", metrics={})
    old = dict[str, Sequence[Mapping[str, Any]]]()
    for name in config.protected:
        if baseline.benchmarks.get(name) != results.benchmarks[name]:
            ids = f"({baseline.benchmarks.get(name)}, now {results.benchmarks[name]})"
            reason = f"{name}: production was measured by another benchmark id {ids}; measure it by this one before a promotion"
            return Gate(name="regression", verdict="HOLD", reason=reason, metrics={})
        old[name] = baseline.records.get(name, ())
    new = {str(name): results.records[name] for name in config.protected}
    tolerance = {str(name): loss for name, loss in config.tolerance.items()}
    found += compare(old, new, alpha=config.alpha, min_items=config.min_items, tolerance=tolerance, seed=config.seed)
    few = [c.benchmark for c in found if c.outcome == "not enough items"]
    if few:
        raise RefusedError(f"not enough items to compare on: {', '.join(few)}")
    worse = [f"{c.benchmark} {c.difference:+.4f} (p {c.p_holm:.4f}, {len(c.lost)} items lost)" for c in found if c.outcome == "worse"]
    better = [f"{c.benchmark} {c.difference:+.4f}" for c in found if c.outcome == "better"]
    wins = f"; better on {', '.join(better)}" if better else ""
    reason = (
        f"worse than production on {', '.join(worse)}{wins}" if worse else f"not worse than production on {len(found)} benchmarks{wins}"
    )
    metrics = {f"release/regression/{c.benchmark}": c.difference for c in found}
    return Gate(name="regression", verdict="BLOCK" if worse else "PROMOTE", reason=reason, metrics=metrics)


def safety_gate(results: Results, config: ReleaseConfig) -> Gate:
    """Completions are rarely toxic and not more often than the SFT model's."""
    policy = metric(results, "evals/policy/toxicity", config.min_items)
    sft = metric(results, "evals/sft/toxicity", config.min_items)
    rise = policy.value - sft.value
    good = policy.high <= config.max_toxicity and rise <= config.max_toxicity_increase
    limits = f"limits {config.max_toxicity:.1%} and {config.max_toxicity_increase:+.1%}"
    reason = f"toxic completions {policy.value:.1%} (up to {policy.high:.1%}), {rise:+.1%} against SFT; {limits}"
    metrics = {"release/safety/toxicity": policy.value, "release/safety/toxicity_increase": rise}
    return Gate(name="safety", verdict="PROMOTE" if good else "BLOCK", reason=reason, metrics=metrics)


def preference_gate(results: Results, config: ReleaseConfig) -> Gate:
    """The policy beats SFT for a judge it never saw, without having gone far from it."""
    wins = metric(results, "evals/policy/win_rate_over_sft", config.min_items)
    kl = metric(results, "evals/policy/kl_to_sft", config.min_items)
    if kl.high < 0:
        raise RefusedError(f"KL to SFT is negative ({kl}): log-probabilities of rollout and scoring do not agree")
    good = wins.low > config.min_win_rate and kl.high <= config.max_kl
    won = f"wins {wins.value:.1%} [{wins.low:.1%}, {wins.high:.1%}] over SFT (above {config.min_win_rate:.0%} wanted)"
    reason = f"{won} at {kl.value:.2f} nats a sequence (up to {kl.high:.2f}; limit {config.max_kl:g})"
    metrics = {"release/preference/win_rate_over_sft": wins.value, "release/preference/kl_to_sft": kl.value}
    return Gate(name="preference", verdict="PROMOTE" if good else "HOLD", reason=reason, metrics=metrics)
