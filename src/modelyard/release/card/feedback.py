"""What the card says of the reward models' comparisons: who ranked how many, how far judges agree with people, what was set aside and why.

Counts, agreement and reasons come from the records of the ``ai_feedback`` and ``rbrm`` artifacts, accuracies from the reward models' own manifests.
Left out: the comparisons themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.judges import record
from modelyard.store.manifest import MANIFEST

RANKERS = {"": "all", "people/": "people", "judge/": "a judge"}
"""Part of a metric's key -> whose comparisons it is of."""


class Feedback(NamedTuple):
    """Tables of the card's section."""

    counts: list[tuple[str, ...]]
    """Split, source, who ranked, comparisons, pairs."""
    accuracies: list[tuple[str, ...]]
    """Reward model, whose held-out comparisons, accuracy with its interval."""
    agreement: list[tuple[str, ...]]
    """Rubric, judge, kappa with its interval."""
    set_aside: list[tuple[str, str]]
    """What, and why."""
    graders: list[tuple[str, ...]]
    """Of replies to benchmarks: rubric, judge, accuracy and kappa with their intervals."""


def feedback(inputs: Mapping[str, Path]) -> Feedback:
    """The section's tables from the decision stage's ``inputs``; empty ones for what the pipeline has not."""
    found = record.read(inputs["ai_feedback"]) if "ai_feedback" in inputs else None
    book = _json(inputs["rbrm"] / "rules.json") if "rbrm" in inputs else None
    aside = [(one.what, one.reason) for one in found.set_aside] if found else []
    aside += [(f"rule-based reward by {one['what']}", one["reason"]) for one in (book or {}).get("set_aside", [])]
    return Feedback(
        counts=[(one.split, one.source, one.ranked_by, str(one.comparisons), str(one.pairs)) for one in (found.counts if found else ())],
        accuracies=[row for role in ("reward", "gold") if role in inputs for row in _accuracies(role, inputs[role])] if found else [],
        agreement=[
            (one.rubric, one.judge, f"{one.kappa:.2f} [{one.kappa_low:.2f}, {one.kappa_high:.2f}] n={one.n}")
            for one in (found.agreement if found else ())
        ],
        set_aside=aside,
        graders=[
            (
                one.rubric,
                one.judge,
                f"{one.accuracy:.2f} [{one.accuracy_low:.2f}, {one.accuracy_high:.2f}] n={one.n}",
                f"{one.kappa:.2f} [{one.kappa_low:.2f}, {one.kappa_high:.2f}]",
            )
            for one in (record.read_graders(inputs["results"]) if "results" in inputs else ())
        ],
    )


def _accuracies(role: str, directory: Path) -> list[tuple[str, ...]]:
    """Accuracy of a reward model on held-out comparisons, on all and by who ranked them."""
    metrics: Mapping[str, float] = (_json(directory / MANIFEST) or {}).get("metrics", {})
    rows: list[tuple[str, ...]] = []
    for part, whose in RANKERS.items():
        key = f"{role}/test/{part}accuracy"
        if key in metrics:
            value, low, high, n = (metrics[f"{key}{end}"] for end in ("", "_low", "_high", "_n"))
            rows.append((role, whose, f"{value:.3f} [{low:.3f}, {high:.3f}] n={n:.0f}"))
    return rows


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None
