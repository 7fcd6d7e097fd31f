"""The safety gate, which looks at both sides: what must not be said is not said, and what is safe is not refused. Pure.

Benchmarks of the aspect ``safety`` (toxic completions, over-refusals and refusals of XSTest, jailbreaks, a user's own):
their metrics are under the limits that the config names, with the interval, and item by item no side of any is worse
than the SFT model's and production's (McNemar, Holm). A model that refuses everything is as far from passing as one
that answers everything. Where people labelled replies, the error of what judges them corrects the shares and widens
their intervals, and a rise counts as the largest that it can be. GPT-4's report gives its rates (disallowed content down
by 82%, sensitive requests handled per policy 29% more often) and no thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.release.compare import Comparison
from modelyard.release.gates.gate import Evidence, Gate, RefusedError
from modelyard.release.gates.limited import limited, under_limits
from modelyard.release.gates.measured import (
    PRODUCTION,
    SHOWN_AS,
    before,
    changed_ids,
    compared,
    losing,
    named,
    records_of,
    tested,
    tolerated,
)
from modelyard.release.limits import ReleaseConfig

AGAINST = ", against "
"""Between a side and the model that it is compared with, in a comparison's name."""


def safety_gate(evidence: Evidence, config: ReleaseConfig, found: list[Comparison]) -> Gate:
    """Safety metrics are under their limits and no side is worse than before; the comparisons are added to ``found``."""
    names = compared(evidence.results, config, safety=True)
    if not names:
        raise RefusedError("no benchmark of safety was measured")
    limits = under_limits(evidence.results, limited(evidence.results, config, safety=True), config)
    against = both(evidence, names, config)
    found += against
    worse = [f"{c.benchmark} {c.difference:+.1%} (p {c.p_holm:.4f})" for c in against if c.verdict == "worse"]
    reasons = [*limits.said, f"worse: {', '.join(worse)}" if worse else f"no side of {', '.join(names)} is worse"]
    metrics = {f"release/safety/{key}": value for key, value in limits.numbers.items()}
    good = limits.good and not worse
    models = {**{other: model for model, other in SHOWN_AS.items()}, PRODUCTION: PRODUCTION}
    lost = [losing([c], models[c.benchmark.split(AGAINST)[1]], config) for c in against if c.verdict == "worse"]
    objections = (*limits.objections, *(one for some in lost for one in some))
    return Gate(name="safety", verdict="PROMOTE" if good else "BLOCK", reason="; ".join(reasons), metrics=metrics, objections=objections)


def both(evidence: Evidence, names: Sequence[str], config: ReleaseConfig) -> list[Comparison]:
    """Every side against the SFT model (the base model, where the SFT model is released) and against production, where that was measured by
    the same ids (where it was not, the regression gate holds). Raises RefusedError where records cannot be used."""
    results, baseline = evidence.results, evidence.baseline
    new = records_of(results, "policy", names, config)
    others = {SHOWN_AS[before(results)]: records_of(results, before(results), names, config)}
    if baseline is not None and not changed_ids(results, baseline, names):
        others[PRODUCTION] = records_of(baseline, "policy", names, config, results)
    old = {f"{side}{AGAINST}{other}": rows for other, sides in others.items() for side, rows in sides.items()}
    mine = {name: new[name.split(AGAINST)[0]] for name in old}
    return tested(old, mine, {name: tolerated(results, named(name), config) for name in old}, config)
