"""The gates over what a model does: against production and its own base model, calibration, safety, preference. Pure.

What is worse or could do harm BLOCKs, with wins elsewhere shown (GPT-Fathom's seesaw: versions gain on some benchmarks and lose on others);
what is merely not shown HOLDs. A result that turns once the items are removed that training has met BLOCKs: what it says is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.formats.records import item_of
from modelyard.formats.results import Results
from modelyard.release.compare import Comparison, Grouped, compare
from modelyard.release.gates.gate import Evidence, Gate, RefusedError, metric
from modelyard.release.limits import ReleaseConfig


def regression_gate(evidence: Evidence, config: ReleaseConfig, found: list[Comparison]) -> Gate:
    """Not worse than production on any protected benchmark; the comparisons are added to ``found``."""
    results, baseline = evidence.results, evidence.baseline
    for name in config.protected:
        require_own(results, name, results.records, "policy")
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
    require_enough(found)
    worse = [f"{c.benchmark} {c.difference:+.4f} (p {c.p_holm:.4f}, {len(c.lost)} items lost)" for c in found if c.verdict == "worse"]
    flips = flipped(old, new, found, config)
    worse += [f"{c.benchmark} {c.difference:+.4f} (p {c.p_holm:.4f}) on the {c.n} items that are in no training data" for c in flips]
    better = [f"{c.benchmark} {c.difference:+.4f}" for c in found if c.verdict == "better"]
    wins = f"; better on {', '.join(better)}" if better else ""
    reason = (
        f"worse than production on {', '.join(worse)}{wins}" if worse else f"not worse than production on {len(found)} benchmarks{wins}"
    )
    metrics = {f"release/regression/{c.benchmark}": c.difference for c in found}
    return Gate(name="regression", verdict="BLOCK" if worse else "PROMOTE", reason=reason, metrics=metrics)


def flipped(old: Grouped, new: Grouped, found: Sequence[Comparison], config: ReleaseConfig) -> list[Comparison]:
    """The benchmarks that are not worse on all items and worse on those that neither model met in training (GPT-4 report, appendix C)."""
    met = {name: {item_of(row) for side in (old, new) for row in side[name] if row.get("contaminated")} for name in new}
    if not any(met.values()):
        return []
    clean_old, clean_new = ({name: [row for row in side[name] if item_of(row) not in met[name]] for name in new} for side in (old, new))
    if empty := [name for name in new if not clean_new[name]]:
        raise RefusedError(f"every item of {empty[0]} is in training data, so nothing can be compared on it")
    tolerance = {str(name): loss for name, loss in config.tolerance.items()}
    clean = compare(clean_old, clean_new, alpha=config.alpha, min_items=config.min_items, tolerance=tolerance, seed=config.seed)
    require_enough([c for c in clean if met[c.benchmark]])
    bad = {c.benchmark for c in found if c.verdict == "worse"}
    return [c for c in clean if c.verdict == "worse" and c.benchmark not in bad]


def require_own(results: Results, name: str, records: Grouped, model: str) -> None:
    """Raise RefusedError unless benchmark ``name`` was run and its records are of the weights of ``model``."""
    if name not in results.benchmarks or not records.get(name):
        raise RefusedError(f"records of benchmark {name} are missing for {model}")
    if foreign := {str(entry.get("weights")) for entry in records[name]} - {results.weights.get(model)}:
        raise RefusedError(f"records of {name} are of other {model} weights ({sorted(foreign)[0][:12]})")


def require_enough(found: Sequence[Comparison]) -> None:
    """Raise RefusedError when a comparison has too few items to say anything."""
    if few := [c.benchmark for c in found if c.verdict == "not enough items"]:
        raise RefusedError(f"not enough items to compare on: {', '.join(few)}")


def alignment_tax_gate(results: Results, config: ReleaseConfig, found: list[Comparison]) -> Gate:
    """Post-training did not cost more of what the base model could than is put up with; the comparisons are added to ``found``."""
    for name in config.max_alignment_tax:
        require_own(results, name, results.records, "policy")
        require_own(results, name, results.base_records, "base")
    before, after = ({str(name): side[name] for name in config.max_alignment_tax} for side in (results.base_records, results.records))
    limits = {str(name): limit for name, limit in config.max_alignment_tax.items()}
    found += compare(before, after, alpha=config.alpha, min_items=config.min_items, tolerance=limits, seed=config.seed)
    require_enough(found)
    taxed = [f"{c.benchmark} {c.difference:+.4f} (at most -{c.tolerance:g})" for c in found if c.verdict == "worse"]
    paid = ", ".join(f"{c.benchmark} {c.difference:+.4f}" for c in found)
    reason = f"lost more than allowed against the base model: {', '.join(taxed)}" if taxed else f"against the base model: {paid}"
    metrics = {f"release/alignment_tax/{c.benchmark}": c.difference for c in found}
    return Gate(name="alignment_tax", verdict="HOLD" if taxed else "PROMOTE", reason=reason, metrics=metrics)


def calibration_gate(results: Results, config: ReleaseConfig) -> Gate:
    """The policy knows how sure it may be, not much worse than the base model."""
    policy = metric(results, "evals/policy/calibration_error", config.min_items)
    base = metric(results, "evals/base/calibration_error", config.min_items)
    rise = policy.value - base.value
    good = policy.high <= config.max_calibration_error and rise <= config.max_calibration_increase
    limits = f"limits {config.max_calibration_error:g} and {config.max_calibration_increase:+g}"
    reason = f"calibration error {policy.value:.3f} (up to {policy.high:.3f}), {rise:+.3f} against the base model; {limits}"
    metrics = {"release/calibration/error": policy.value, "release/calibration/increase": rise}
    return Gate(name="calibration", verdict="PROMOTE" if good else "HOLD", reason=reason, metrics=metrics)


def preference_gate(results: Results, config: ReleaseConfig) -> Gate:
    """The policy beats SFT for a judge it never saw, without having gone far from it."""
    wins = metric(results, "evals/policy/win_rate_over_sft", config.min_items)
    kl = metric(results, "evals/policy/kl_to_sft", config.min_items)
    if kl.high < 0:
        raise RefusedError(f"KL to SFT is negative ({kl}): log-probabilities of rollout and scoring do not agree")
    met = results.metrics.get("evals/policy/win_rate_over_sft_contaminated")
    clean = metric(results, "evals/policy/win_rate_over_sft_clean", config.min_items) if met else wins
    good = wins.low > config.min_win_rate and kl.high <= config.max_kl
    won = f"wins {wins.value:.1%} [{wins.low:.1%}, {wins.high:.1%}] over SFT (above {config.min_win_rate:.0%} wanted)"
    reason = f"{won} at {kl.value:.2f} nats a sequence (up to {kl.high:.2f}; limit {config.max_kl:g})"
    metrics = {"release/preference/win_rate_over_sft": wins.value, "release/preference/kl_to_sft": kl.value}
    if good and clean.low <= config.min_win_rate:
        flip = f"{reason}; but {clean.value:.1%} [{clean.low:.1%}, {clean.high:.1%}] on the {clean.n} openings that are in no training data"
        return Gate(name="preference", verdict="BLOCK", reason=flip, metrics=metrics)
    return Gate(name="preference", verdict="PROMOTE" if good else "HOLD", reason=reason, metrics=metrics)
