"""What gates are made of, and the gates over what a model was made from: weights, data, contamination, forecast. Pure.

Every gate looks at one kind of evidence. Absence never passes: a missing metric, a NaN, too few items, weights or a benchmark id other than
the ones asked about all BLOCK. A forecast miss HOLDs (somebody has to look); what could do harm BLOCKs. The gates over what the model does
are in ``release.behaviour``; ``release.verdict`` puts all together. After Google's Model Card thresholds and GPT-4's release criteria in
spirit; the papers give no rules to copy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.estimate import Estimate
from modelyard.release.compare import Comparison

Verdict = Literal["PROMOTE", "HOLD", "BLOCK"]
ITEMS_OF = {"toxicity": "openings"}
"""Benchmarks that put another benchmark's items to the model: what is checked for contamination is those."""


Compared = Literal["held_out_text", "last_word", "human_eval", "toxicity"]
"""Benchmarks that any version can be put to: made of text, and no other model has a part in their scores."""


GateName = Literal[
    "weights",
    "data",
    "metrics",
    "contamination",
    "forecast",
    "regression",
    "alignment_tax",
    "calibration",
    "safety",
    "preference",
    "sign_off",
]


class Override(Config):
    """A person's decision that one gate shall not stop this release."""

    gate: GateName
    """Which; ``weights`` cannot be overridden: results of other weights say nothing."""
    name: str = Field(pattern=r"\S")
    """Who decided."""
    reason: str = Field(pattern=r"\S")
    """Why."""

    @model_validator(mode="after")
    def _possible(self) -> Override:
        if self.gate in ("weights", "sign_off"):
            raise ValueError(f"{self.gate} cannot be overridden: results of other weights say nothing, and a signature is a person's")
        return self


class ConductLimits(Config):
    """The two sides of safety: what must be refused is, and what is safe is answered."""

    max_over_refusal: float = Field(ge=0, le=1)
    """Largest share of safe prompts refused (upper end of the interval)."""
    max_unsafe_answered: float = Field(ge=0, le=1)
    """Largest share of unsafe prompts answered (upper end)."""
    max_jailbroken: float = Field(ge=0, le=1)
    """Largest share of jailbreaks answered (upper end)."""
    tolerance: float = Field(ge=0, le=1)
    """Rise of any of them over the SFT model or production that is put up with."""


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
    conduct: ConductLimits | None = None
    """Limits on refusals, over-refusals and jailbreaks; absent: the line does not measure them."""
    min_win_rate: float = Field(ge=0, le=1)
    """Win rate over SFT that the lower end of the interval must exceed."""
    max_kl: float = Field(gt=0)
    """Largest KL(policy || sft), nats a sequence (upper end of the interval)."""
    max_alignment_tax: dict[Compared, float] = Field(min_length=1)
    """Benchmark -> mean score that post-training may cost against the base model (InstructGPT's alignment tax)."""
    max_calibration_error: float = Field(ge=0, le=1)
    """Largest calibration error of the policy (upper end of the interval)."""
    max_calibration_increase: float = Field(ge=0, le=1)
    """Largest rise of that error over the base model's (GPT-4: from 0.007 to 0.074)."""
    sign_off_minutes: int = Field(default=0, ge=0)
    """How long a person is waited for whose signature a promotion needs; 0: none is asked for."""
    overrides: tuple[Override, ...] = ()
    """Gates that shall not stop this release; each stays on the record with its name and reason."""
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
    base_records: Mapping[str, Sequence[Mapping[str, Any]]]
    """Benchmark -> per-item records of the base model; none in production's results, where they are not needed."""
    sft_records: Mapping[str, Sequence[Mapping[str, Any]]]
    """The same of the SFT model."""


class Use(NamedTuple):
    """A training set that went into a model."""

    model: str
    """base, sft, reward, scorer or policy."""
    name: str
    """The set, as the contamination report calls it."""
    data: str | None
    """``corpus/version`` or ``feedback/version`` it was read from; None: unknown."""


class Evidence(NamedTuple):
    """All that a decision rests on.

    None stands for missing, except for the baseline: None there means that nothing is in production yet.
    """

    results: Results
    weights: Mapping[str, str]
    """Model -> fingerprint of the weights to be released, computed from the files."""
    suite: Mapping[str, Any] | None
    """Outcome of the data suite: ``success`` and ``evaluated``."""
    metric_suite: Mapping[str, Any] | None
    """Outcome of the suites on the table of metrics, like ``suite``."""
    contamination: Mapping[str, Any] | None
    """Benchmark -> {n, contaminated, share, sets: {training set: {documents, contaminated}}}."""
    searched: Sequence[str]
    """``corpus/version`` and ``feedback/version`` whose sets the contamination check searched."""
    trained: Sequence[Use]
    """Every training set of every model of the line."""
    forecast: Mapping[str, Any] | None
    """prediction, low, high, at_compute (FLOPs); ``sealed_at``, when its artifact was committed (seconds since 1970)."""
    base: Mapping[str, Any] | None
    """The base model's run: ``started`` (seconds since 1970) and ``flops``."""
    final_loss: float | None
    """What the forecast predicted, as measured after pretraining."""
    baseline: Results | None
    """Results of the production model."""
    unmeasured: str | None
    """Why the production model has no results by today's benchmarks; None where it has or where there is none."""


class Gate(Config):
    """One gate's verdict."""

    name: GateName
    """What was judged."""
    verdict: Verdict
    """PROMOTE: nothing against it."""
    reason: str
    """One line with the numbers."""
    metrics: dict[str, float]
    """The numbers."""
    override: Override | None = None
    """Who set the verdict aside, and why."""

    @property
    def standing(self) -> Verdict:
        """The verdict that counts."""
        return "PROMOTE" if self.override else self.verdict


class Decision(Config):
    """All gates and what follows."""

    verdict: Verdict
    """The worst that stands."""
    gates: tuple[Gate, ...]
    """In the order judged."""
    comparisons: tuple[Comparison, ...]
    """Benchmark by benchmark against production; empty for a first release."""
    tax: tuple[Comparison, ...]
    """Benchmark by benchmark against the base model."""
    conduct: tuple[Comparison, ...] = ()
    """Both sides of safety against the SFT model and against production; empty where they are not measured."""


class RefusedError(ValueError):
    """Evidence that cannot be used."""


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


def suite_gate(name: Literal["data", "metrics"], suite: Mapping[str, Any] | None) -> Gate:
    """The suites on the corpus (``data``) or on the table of metrics ran and found nothing."""
    if suite is None or not isinstance(suite.get("success"), bool):
        raise RefusedError(f"outcome of the {name} suite is missing")
    evaluated = number(suite.get("evaluated"), "number of expectations evaluated")
    if evaluated < 1:
        raise RefusedError(f"the {name} suite evaluated no expectation")
    failed = [str(item) for item in suite.get("failed", ())]
    good = suite["success"] and not failed
    reason = f"{evaluated:.0f} expectations met" if good else f"expectations not met: {', '.join(failed) or 'unnamed'}"
    return Gate(
        name=name,
        verdict="PROMOTE" if good else "BLOCK",
        reason=reason,
        metrics={f"release/{name}/evaluated": evaluated, f"release/{name}/failed": float(len(failed))},
    )


def contamination_gate(evidence: Evidence, config: ReleaseConfig) -> Gate:
    """Few items of any benchmark that matters are in training data, and they were looked for in every set that a model was trained on."""
    gate = contamination_shares(evidence.contamination, config)
    if not evidence.trained:
        raise RefusedError("which sets the models were trained on is not known")
    assert evidence.contamination
    for name in checked_benchmarks(config):
        if name in config.protected and name not in evidence.results.benchmarks:
            raise RefusedError(f"benchmark {name} was not run")
        checked = ITEMS_OF.get(name, name)
        require_searched(checked, evidence.contamination[checked], evidence)
    return gate


def checked_benchmarks(config: ReleaseConfig) -> list[str]:
    """Benchmarks whose contamination matters: the protected ones and the openings, on which the preference rests."""
    return list(dict.fromkeys((*config.protected, "openings")))


def contamination_shares(report: Mapping[str, Any] | None, config: ReleaseConfig) -> Gate:
    """What the report alone says: enough items of every benchmark were looked for and few of them are in training data."""
    if not report:
        raise RefusedError("contamination report is missing")
    shares = {}
    for name in checked_benchmarks(config):
        checked = ITEMS_OF.get(name, name)
        if checked not in report:
            raise RefusedError(f"benchmark {name} was not checked for contamination")
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
    """Raise RefusedError unless ``benchmark`` was looked for in every set that a model was trained on, of the very data it came from."""
    for use in evidence.trained:
        if use.data is None or use.data not in evidence.searched:
            raise RefusedError(
                f"{use.model} was trained on {use.data or 'unknown data'}, but {' and '.join(evidence.searched) or 'none'} was searched"
            )
        if number(entry.get("sets", {}).get(use.name, {}).get("documents", 0), f"documents of {use.name} searched") < 1:
            raise RefusedError(f"{use.name}, which {use.model} was trained on, was not searched for items of {benchmark}")


def forecast_gate(evidence: Evidence, config: ReleaseConfig) -> Gate:
    """The loss came out as the forecast said, which was of this very run and sealed before it started.

    A miss means that something is not understood.
    """
    forecast, base = evidence.forecast, evidence.base
    if forecast is None:
        raise RefusedError("forecast is missing")
    if base is None:
        raise RefusedError("record of the base model's run is missing")
    sealed, started = (
        number(forecast.get("sealed_at"), "time of the forecast's seal"),
        number(base.get("started"), "start of the base model"),
    )
    if not sealed <= started:
        raise RefusedError(f"forecast was sealed {sealed - started:.0f} s after the base model's training began")
    at, flops = (
        number(forecast.get("at_compute"), "compute that the forecast is for"),
        number(base.get("flops"), "compute of the base model"),
    )
    if not math.isclose(at, flops, rel_tol=1e-6):
        raise RefusedError(f"forecast is for {at:.4g} FLOPs, but the base model took {flops:.4g}")
    prediction, low, high = (number(forecast.get(key), f"forecast {key}") for key in ("prediction", "low", "high"))
    loss = number(evidence.final_loss, "final validation loss")
    error = loss / prediction - 1
    inside = "inside" if low <= loss <= high else "outside"
    reason = f"loss {loss:.4f} against forecast {prediction:.4f} [{low:.4f}, {high:.4f}]: {error:+.2%}, {inside} its interval"
    if objection := forecast.get("objection"):
        reason += f"; {objection}"
    metrics = {"release/forecast/prediction": prediction, "release/forecast/loss": loss, "release/forecast/error": error}
    good = abs(error) <= config.forecast_tolerance
    return Gate(
        name="forecast",
        verdict="PROMOTE" if good else "HOLD",
        reason=reason + ("" if good else f", more than {config.forecast_tolerance:.1%}"),
        metrics=metrics,
    )
