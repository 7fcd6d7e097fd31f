"""Is NEW worse than OLD on the same items? Paired tests (:mod:`modelyard.stats.paired`) on per-item records.

Right/wrong scores: McNemar's exact test (binomial on the flipped
items). Other scores: paired bootstrap of the mean difference (Efron 1979), and the paired t-test where no resample crosses zero: how far below
one in the number of resamples p lies decides what is left of it after Holm's correction (1979) over many benchmarks. Pairing matters: facts of
other teams show p = 0.080 unpaired where the paired test gives 0.008. Records of different benchmark ids are refused.
What a record is: :mod:`modelyard.formats.records`. Left out: equivalence tests, multilevel models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from modelyard.config import Config
from modelyard.formats import records
from modelyard.stats.paired import holm, mcnemar, paired_bootstrap

Outcome = Literal["better", "same", "worse", "not enough items"]
Grouped = Mapping[str, Sequence[Mapping[str, Any]]]
"""Benchmark -> records."""
POWER = 0.8


class Comparison(Config):
    """One benchmark, two models."""

    benchmark: str
    """Name."""
    n: int
    """Items both answered."""
    old: float
    """Mean score of OLD."""
    new: float
    """Mean score of NEW."""
    difference: float
    """NEW - OLD; higher is better."""
    low: float
    """95% paired bootstrap interval of the difference, lower end."""
    high: float
    """Upper end."""
    test: str
    """``mcnemar`` or ``bootstrap``."""
    p: float
    """Two-sided p-value."""
    p_holm: float
    """After Holm's correction over all benchmarks of the comparison."""
    detectable: float | None
    """Smallest true difference that this many items would show with 80% power at the level that Holm's first step leaves; None where the
    scores' spread is not known: a single item, or differences that are all alike."""
    tolerance: float
    """A difference up to this is called same, in both directions."""
    verdict: Outcome
    """The verdict."""
    gained: tuple[str, ...]
    """Items whose score rose."""
    lost: tuple[str, ...]
    """Items whose score fell."""


def compare(
    old: Grouped,
    new: Grouped,
    *,
    alpha: float = 0.05,
    min_items: int = 30,
    tolerance: Mapping[str, float] = {},
    seed: int = 0,
) -> list[Comparison]:
    """Compare every benchmark (name -> records) of ``old`` with the same one of ``new``.

    Raises:
        ValueError: the benchmarks are not the same, their ids differ, or the items or what was asked in one differ.
    """
    if set(old) != set(new) or not old:
        raise ValueError(f"benchmarks differ: old has {sorted(old)}, new has {sorted(new)}")
    level = alpha / len(old)
    drafts = [_one(name, old[name], new[name], tolerance.get(name, 0.0), level, seed) for name in sorted(old)]
    corrected = holm([draft.p for draft in drafts])
    return [
        draft.model_copy(update={"p_holm": p, "verdict": _outcome(draft, p, alpha, min_items)})
        for draft, p in zip(drafts, corrected, strict=True)
    ]


def in_common(old: Grouped, new: Grouped) -> tuple[Grouped, Grouped]:
    """Both sides less the benchmarks and items that only one of them has."""
    shared = {name: {records.item_of(e) for e in old[name]} & {records.item_of(e) for e in new[name]} for name in set(old) & set(new)}
    left, right = (
        {name: [e for e in side[name] if records.item_of(e) in items] for name, items in shared.items() if items} for side in (old, new)
    )
    return left, right


def _one(
    name: str, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], tolerance: float, level: float, seed: int
) -> Comparison:
    from scipy.stats import norm

    ids = [{str(entry.get("benchmark_id", "")) for entry in side} for side in (old, new)]
    if ids[0] != ids[1] or len(ids[0]) > 1:
        raise ValueError(
            f"{name}: another benchmark id (old {sorted(ids[0])}, new {sorted(ids[1])}); results of different ids are never compared"
        )
    before, after = records.scores_by_item(old), records.scores_by_item(new)
    if set(before) != set(after) or not before:
        alone = sorted(set(before) ^ set(after))
        example = f", for example {alone[0]!r}" if alone else ""
        raise ValueError(f"{name}: items differ ({len(before)} old, {len(after)} new, {len(set(before) & set(after))} in both{example})")
    items = sorted(before)
    asked = [{records.item_of(entry): entry.get("content") for entry in side} for side in (old, new)]
    if other := [item for item in items if asked[0][item] != asked[1][item] and None not in (asked[0][item], asked[1][item])]:
        raise ValueError(f"{name}: item {other[0]} is another question in the two files ({len(other)} of {len(items)} items)")
    a, b = np.array([before[i] for i in items]), np.array([after[i] for i in items])
    difference = b - a
    gained = tuple(item for item, d in zip(items, difference, strict=True) if d > 0)
    lost = tuple(item for item, d in zip(items, difference, strict=True) if d < 0)
    low, high, p = paired_bootstrap(difference, seed)
    binary = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    spread = float(difference.std(ddof=1)) if len(items) > 1 else 0.0
    if binary:  # no flips seen is not no variance: one flip in n bounds what could have been seen
        p, spread = mcnemar(len(gained), len(lost)), max(spread, 1 / math.sqrt(len(items)))
    power = float(norm.isf(level / 2) + norm.ppf(POWER))
    return Comparison(
        benchmark=name,
        n=len(items),
        old=float(a.mean()),
        new=float(b.mean()),
        difference=float(difference.mean()),
        low=low,
        high=high,
        test="mcnemar" if binary else "bootstrap",
        p=p,
        p_holm=p,
        detectable=power * spread / math.sqrt(len(items)) if spread and len(items) > 1 else None,
        tolerance=tolerance,
        verdict="same",
        gained=gained,
        lost=lost,
    )


def _outcome(draft: Comparison, p: float, alpha: float, min_items: int) -> Outcome:
    if draft.n < min_items:
        return "not enough items"
    if p < alpha and draft.difference < -draft.tolerance:
        return "worse"
    return "better" if p < alpha and draft.difference > draft.tolerance else "same"
