"""The gate over what a release sees: against its twin, which learned from the same data, seed and steps with every image grey. Pure.

GPT-4's report (arXiv:2303.08774, tables 1 and 2) shows a model without vision beside the released one; here the release must owe something to
its images. It is ahead of the twin on every benchmark that shows any, by a paired test, on the items that no training set holds too, and not
worse on any of text alone. What is not shown BLOCKs, and so does a twin that is missing or was trained otherwise. A release that is shown no images
has no such gate.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.release.compare import Comparison, Grouped
from modelyard.release.gates.gate import Evidence, Gate, RefusedError
from modelyard.release.gates.measured import SAFETY, compared, losing, named, records_of, tested
from modelyard.release.limits import ReleaseConfig

TWIN = "no_vision"
"""The SFT model's twin that never saw an image."""


def vision_gate(evidence: Evidence, config: ReleaseConfig, found: list[Comparison]) -> Gate:
    """Ahead of the twin wherever there is something to see, nowhere behind; the comparisons are added to ``found``."""
    results = evidence.results
    if TWIN not in results.weights:
        raise RefusedError("the release is shown images, and no twin that never saw one was measured")
    if evidence.twin_differs:
        raise RefusedError(f"the twin differs by more than the images: {evidence.twin_differs}")
    shown = [
        name for name, one in results.benchmarks.items() if one.images == "shown" and one.aspect != SAFETY and config.of(name).own.gated
    ]
    texts = [name for name in compared(results, config, safety=False) if not results.benchmarks[name].images]
    if not shown or not texts:
        raise RefusedError(f"no benchmark {'with images' if not shown else 'of text'} was measured on which the release meets its twin")
    blind, seeing = (records_of(results, model, [*shown, *texts], config) for model in (TWIN, "policy"))
    tolerance = {key: config.min_vision_gain if named(key) in shown else config.of(named(key)).tolerance for key in seeing}
    against = tested(blind, seeing, tolerance, config)
    found += against
    behind = [c for c in against if named(c.benchmark) in texts and c.verdict == "worse"]
    level = [c for c in against if named(c.benchmark) in shown and c.verdict != "better"]
    untaught = [c for c in clean(blind, seeing, shown, config) if c.verdict != "better"]
    unseen = [*map(said, level), *(f"{said(c)} on the {c.n} items that are in no training data" for c in untaught)]
    reasons = [f"not shown to see more than its twin on {', '.join(unseen)}"] if unseen else []
    reasons += [f"worse than its twin on text: {', '.join(map(said, behind))}"] if behind else []
    ahead = ", ".join(said(c) for c in against if named(c.benchmark) in shown)
    passed = f"ahead of its twin that never saw an image: {ahead}; not worse on {', '.join(texts)}"
    return Gate(
        name="vision",
        verdict="BLOCK" if reasons else "PROMOTE",
        reason="; ".join(reasons) or passed,
        metrics={f"release/vision/{c.benchmark}": c.difference for c in against},
        objections=losing([*level, *untaught, *behind], TWIN, config),
    )


def said(one: Comparison) -> str:
    """A comparison in a few words."""
    return f"{one.benchmark} {one.new:.3f} against {one.old:.3f} (p {one.p_holm:.4f})"


def clean(blind: Grouped, seeing: Grouped, names: Sequence[str], config: ReleaseConfig) -> list[Comparison]:
    """The comparisons once more without the items that training has met; of benchmarks that have any. Raises RefusedError where none is left."""
    pairs = {key: (blind[key], seeing[key]) for key in seeing if named(key) in names}
    met = {key: {str(row["item"]) for rows in pair for row in rows if row.get("contaminated")} for key, pair in pairs.items()}
    touched = [key for key, items in met.items() if items]
    if not touched:
        return []
    old, new = ({key: [row for row in side[key] if str(row["item"]) not in met[key]] for key in touched} for side in (blind, seeing))
    if empty := [key for key in touched if not new[key]]:
        raise RefusedError(f"every item of {empty[0]} is in training data, so it shows nothing")
    return tested(old, new, dict.fromkeys(touched, config.min_vision_gain), config)
