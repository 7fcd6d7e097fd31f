"""The gates over what a model can do: against production and its own base model, calibration, preference. Pure.

Every benchmark of the results is compared, by whatever name. What is worse or could do harm BLOCKs, with wins elsewhere
shown (GPT-Fathom's seesaw: versions gain on some benchmarks and lose on others); what is merely not shown HOLDs. A
result that turns once the items are removed that training has met BLOCKs: what it says is not known.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.formats.results import Results
from modelyard.release.compare import Comparison, Grouped
from modelyard.release.gates.gate import Evidence, Gate, RefusedError, metric
from modelyard.release.gates.limited import limited, under_limits
from modelyard.release.gates.measured import (
    PRODUCTION,
    answered,
    changed_ids,
    compared,
    first,
    losing,
    named,
    records_of,
    tested,
)
from modelyard.release.limits import ReleaseConfig

NOTHING_SERVES = (
    "nothing serves in this registry to compare with; is it the right one (MLFLOW_TRACKING_URI, MODELYARD_HOME, the line's name)? "
    "A first release says release.first = true"
)


def regression_gate(evidence: Evidence, config: ReleaseConfig, found: list[Comparison]) -> Gate:
    """Inside the limits of its benchmarks and not worse than production on any; comparisons are added to ``found``."""
    results, baseline = evidence.results, evidence.baseline
    names = compared(results, config, safety=False)
    if not names:
        raise RefusedError("no benchmark was measured on which versions can be compared")
    records_of(results, "policy", names, config)  # refuses what cannot decide
    limits = under_limits(results, limited(results, config, safety=False), config)
    metrics = {f"release/regression/{key}": value for key, value in limits.numbers.items()}
    served = None if evidence.unmeasured else baseline
    other = "" if served is None else changed_ids(results, served, [*names, *compared(results, config, safety=True)])
    against, flips = ([], []) if served is None or other else against_production(results, served, names, config)
    found += against
    metrics |= {f"release/regression/{c.benchmark}": c.difference for c in against}
    if not limits.good:
        reason = "; ".join([*limits.said, *worse_than_production(against, flips)])
        objections = (*limits.objections, *losing(worse_of(against, flips), PRODUCTION, config))
        return Gate(name="regression", verdict="BLOCK", reason=reason, metrics=metrics, objections=objections)
    if evidence.unmeasured:
        return Gate(name="regression", verdict="HOLD", reason=f"cannot be compared: {evidence.unmeasured}", metrics=metrics)
    if baseline is None and not config.first:
        return Gate(name="regression", verdict="HOLD", reason=NOTHING_SERVES, metrics=metrics)
    if baseline is None:
        reason = "; ".join(["first release: nothing is in production to compare with", *limits.said])
        return Gate(name="regression", verdict="PROMOTE", reason=reason, metrics=metrics)
    if other:
        reason = f"{other}; measure it by this one before a promotion"
        return Gate(name="regression", verdict="HOLD", reason=reason, metrics=metrics)
    gate = verdict_of(against, flips, limits.said, metrics)
    return gate.model_copy(update={"objections": losing(worse_of(against, flips), PRODUCTION, config)})


def against_production(
    results: Results, baseline: Results, names: Sequence[str], config: ReleaseConfig
) -> tuple[list[Comparison], list[Comparison]]:
    """Comparisons with what serves, and those that turn once the items are removed that training has met (see :func:`flipped`)."""
    names = answered(baseline, "policy", names)
    old, new = records_of(baseline, "policy", names, config, results), records_of(results, "policy", names, config)
    against = tested(old, new, {name: config.of(named(name)).tolerance for name in new}, config)
    return against, flipped(old, new, against, config)


def verdict_of(against: Sequence[Comparison], flips: Sequence[Comparison], said: Sequence[str], metrics: dict[str, float]) -> Gate:
    """BLOCK where anything is worse; wins elsewhere are named."""
    better = [f"{c.benchmark} {c.difference:+.4f}" for c in against if c.verdict == "better"]
    wins = f"; better on {', '.join(better)}" if better else ""
    if worse := worse_than_production(against, flips):
        return Gate(name="regression", verdict="BLOCK", reason=f"{worse[0]}{wins}", metrics=metrics)
    reason = "; ".join([f"not worse than production on {len(against)} benchmarks{wins}", *said])
    return Gate(name="regression", verdict="PROMOTE", reason=reason, metrics=metrics)


def worse_of(against: Sequence[Comparison], flips: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons that speak against the release."""
    return [*(c for c in against if c.verdict == "worse"), *flips]


def worse_than_production(against: Sequence[Comparison], flips: Sequence[Comparison]) -> list[str]:
    """One line on all that is worse, or none."""
    worse = [f"{c.benchmark} {c.difference:+.4f} (p {c.p_holm:.4f}, {lost(c)})" for c in against if c.verdict == "worse"]
    worse += [f"{c.benchmark} {c.difference:+.4f} (p {c.p_holm:.4f}) on the {c.n} items that are in no training data" for c in flips]
    return [f"worse than production on {', '.join(worse)}"] if worse else []


def lost(found: Comparison) -> str:
    """How many items production had and the candidate has not, the first of them by name; the card names all."""
    return f"{len(found.lost)} items lost: {first(found.lost)}" if found.lost else "0 items lost"


def flipped(old: Grouped, new: Grouped, found: Sequence[Comparison], config: ReleaseConfig) -> list[Comparison]:
    """The benchmarks that are not worse on all items and worse on those that neither model met in training (GPT-4 report,
    appendix C)."""
    met = {name: {str(row["item"]) for side in (old, new) for row in side[name] if row.get("contaminated")} for name in new}
    touched = [name for name in new if met[name]]
    clean_old, clean_new = (
        {name: [row for row in side[name] if str(row["item"]) not in met[name]] for name in touched} for side in (old, new)
    )
    if not touched:
        return []
    if empty := [name for name in touched if not clean_new[name]]:
        raise RefusedError(f"every item of {empty[0]} is in training data, so nothing can be compared on it")
    tolerance = {name: config.of(named(name)).tolerance for name in touched}
    bad = {c.benchmark for c in found if c.verdict == "worse"}
    return [c for c in tested(clean_old, clean_new, tolerance, config) if c.verdict == "worse" and c.benchmark not in bad]


def alignment_tax_gate(results: Results, config: ReleaseConfig, found: list[Comparison]) -> Gate:
    """Post-training did not cost more of what the base model could than is put up with; the comparisons are added to
    ``found``."""
    names = answered(results, "base", compared(results, config, safety=False))
    if not names:
        raise RefusedError("no benchmark was measured on which the base model and the policy can be compared")
    before, after = (records_of(results, model, names, config) for model in ("base", "policy"))
    taxes = tested(before, after, {name: config.of(named(name)).max_alignment_tax for name in after}, config)
    found += taxes
    taxed = [f"{c.benchmark} {c.difference:+.4f} (at most -{c.tolerance:g})" for c in taxes if c.verdict == "worse"]
    paid = ", ".join(f"{c.benchmark} {c.difference:+.4f}" for c in taxes)
    reason = f"lost more than allowed against the base model: {', '.join(taxed)}" if taxed else f"against the base model: {paid}"
    metrics = {f"release/alignment_tax/{c.benchmark}": c.difference for c in taxes}
    objections = losing([c for c in taxes if c.verdict == "worse"], "base", config)
    return Gate(name="alignment_tax", verdict="HOLD" if taxed else "PROMOTE", reason=reason, metrics=metrics, objections=objections)


def calibration_gate(results: Results, config: ReleaseConfig) -> Gate:
    """The policy knows how sure it may be, not much worse than the base model, on every benchmark that the config names."""
    if not config.calibration:
        raise RefusedError("release.calibration names no benchmark")
    good, said, metrics = True, [], dict[str, float]()
    for name in config.calibration:
        least = config.of(name).min_items
        policy, base = (metric(results, f"evals/{model}/{name}/calibration_error", least) for model in ("policy", "base"))
        rise = policy.value - base.value
        good = good and policy.high <= config.max_calibration_error and rise <= config.max_calibration_increase
        said.append(f"{name} {policy.value:.3f} (up to {policy.high:.3f}), {rise:+.3f} against the base model")
        metrics |= {f"release/calibration/{name}/error": policy.value, f"release/calibration/{name}/increase": rise}
    limits = f"limits {config.max_calibration_error:g} and {config.max_calibration_increase:+g}"
    reason = f"calibration error: {'; '.join(said)}; {limits}"
    return Gate(name="calibration", verdict="PROMOTE" if good else "HOLD", reason=reason, metrics=metrics)


def preference_gate(evidence: Evidence, config: ReleaseConfig) -> Gate:
    """The policy beats SFT for a judge it never saw, without having gone far from it. A line that ends with SFT has no policy: its config
    says why."""
    if evidence.ends_with_sft and (aside := config.set_aside.preference):
        return Gate(name="preference", verdict="PROMOTE", reason=aside, metrics={}, set_aside=True)
    results = evidence.results
    prefix, least = f"evals/policy/{config.preference}", config.of(config.preference).min_items
    wins = metric(results, f"{prefix}/win_rate_over_sft", least)
    kl = metric(results, f"{prefix}/kl_to_sft", least)
    if kl.high < 0:
        raise RefusedError(f"KL to SFT is negative ({kl}): log-probabilities of rollout and scoring do not agree")
    met = results.metrics.get(f"{prefix}/win_rate_over_sft_contaminated")
    clean = metric(results, f"{prefix}/win_rate_over_sft_clean", least) if met else wins
    good = wins.low > config.min_win_rate and kl.high <= config.max_kl
    won = f"wins {wins.value:.1%} [{wins.low:.1%}, {wins.high:.1%}] over SFT (above {100 * config.min_win_rate:g}% wanted)"
    reason = f"{won} at {kl.value:.2f} nats a sequence (up to {kl.high:.2f}; limit {config.max_kl:g})"
    metrics = {"release/preference/win_rate_over_sft": wins.value, "release/preference/kl_to_sft": kl.value}
    if good and clean.low <= config.min_win_rate:
        items = f"the {clean.n} items of {config.preference} that are in no training data"
        flip = f"{reason}; but {clean.value:.1%} [{clean.low:.1%}, {clean.high:.1%}] on {items}"
        return Gate(name="preference", verdict="BLOCK", reason=flip, metrics=metrics)
    return Gate(name="preference", verdict="PROMOTE" if good else "HOLD", reason=reason, metrics=metrics)
