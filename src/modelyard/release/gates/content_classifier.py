"""The gate over the content classifier that a release is served with: it finds what production's finds and blocks no more of what is safe. Pure.

Both are asked about the same held-out texts: those that are harmful in any way and in each protected category, and unsafe prompts, must be
blocked no less often, safe prompts, harmless sentences that name people and harmless labelled texts no more often (McNemar's exact test,
Holm's correction). What is worse holds the release: a person decides whether the labels or the classifier changed for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard.formats.harms import ANY, Verdict, labelled
from modelyard.release.compare import Comparison, compare, in_common
from modelyard.release.gates.gate import Classified, Evidence, Gate, RefusedError
from modelyard.release.gates.measured import toothless_of
from modelyard.release.limits import ReleaseConfig

PASSING = ("safe", "identity")
"""Groups of probes that should pass."""
HARMLESS = "harmless"
"""Labelled texts of no harm."""
Rows = dict[str, list[dict[str, Any]]]


def content_classifier_gate(evidence: Evidence, config: ReleaseConfig, found: list[Comparison]) -> Gate:
    """Not significantly worse than production's; the comparisons are added to ``found``."""
    new, old, aside = evidence.classifier, evidence.production_classifier, config.set_aside.content_classifier
    if new is None and aside and (old is not None or evidence.lost_classifier):
        return _gate("HOLD", f"production is served with a content classifier, and this release has none ({aside})")
    if new is None and aside:
        return Gate(name="content_classifier", verdict="PROMOTE", reason=aside, metrics={}, set_aside=True)
    if new is None:
        raise RefusedError("there is no content classifier, and release.set_aside.content_classifier gives no reason")
    if not new.verdicts:
        raise RefusedError("the content classifier has no verdicts")
    if evidence.lost_classifier:
        return _gate("HOLD", f"cannot be compared: production's classifier {evidence.lost_classifier} is not in the store")
    if old is None:
        return _gate("PROMOTE", f"nothing to compare with; {told(new)}")
    protected = tuple(dict.fromkeys([*new.report.protected, *old.report.protected]))
    truth = {one.id: one for one in new.verdicts}
    before, after = in_common(rows(old.verdicts, truth, protected), rows(new.verdicts, truth, protected))
    missing = [name for name in (ANY, *protected) if name not in after]
    if missing or not any(name in after for name in (*PASSING, HARMLESS)):
        lacking = missing[0] if missing else "what is safe"
        return _gate("HOLD", f"cannot be compared: no text of {lacking} was held out by both classifiers")
    against = compare(before, after, alpha=config.alpha, min_items=1, seed=config.seed)
    found += against
    metrics = {f"release/content_classifier/{c.benchmark.replace('/', '_')}": c.difference for c in against}
    worse = [f"{c.benchmark} {c.difference:+.1%} of {c.n} (p {c.p_holm:.4f})" for c in against if c.verdict == "worse"]
    if worse:
        return _gate("HOLD", f"judges fewer rightly than production's: {', '.join(worse)}", metrics)
    least = [f"{c.benchmark} ({c.n})" for c in toothless_of(against, config.alpha)]
    few = f"; too few texts to be seen to be worse: {', '.join(least)}" if least else ""
    return _gate("PROMOTE", f"not worse than production's on {len(against)} kinds of text; {told(new)}{few}", metrics)


def rows(verdicts: Sequence[Verdict], truth: dict[str, Verdict], protected: Sequence[str]) -> Rows:
    """Kind of text -> one record each: 1 where the classifier does with it what it should. ``truth`` holds the labels that count."""
    found: Rows = {}
    for one in verdicts:
        if (known := truth.get(one.id)) is None:
            continue
        blocked = bool(one.flags)
        if known.group == "labelled":
            kinds = [name for name in (ANY, *protected) if labelled(known.labels, name) == 1]
            kinds += [] if 1 in known.labels.values() else [HARMLESS]
            right = blocked if 1 in known.labels.values() else not blocked
        else:
            kinds, right = [known.group], blocked if known.group not in PASSING else not blocked
        for kind in kinds:
            found.setdefault(kind, []).append({"item": one.id, "score": float(right), "benchmark_id": ""})
    return found


def told(found: Classified) -> str:
    """How good it is, in a few words."""
    said, any_, safe = list[str](), found.report.categories.get(ANY), found.report.blocked.get("safe")
    if any_:
        said.append(f"any harm: AUPRC {any_.auprc}")
    if safe:
        said.append(f"blocks {safe} of {safe.n} safe prompts")
    return ", ".join(said) or "not measured on any harm"


def _gate(verdict: Any, reason: str, metrics: dict[str, float] | None = None) -> Gate:
    return Gate(name="content_classifier", verdict=verdict, reason=reason, metrics=metrics or {})
