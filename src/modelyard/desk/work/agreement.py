"""How far labelers agree, as InstructGPT counts it and beyond chance.

InstructGPT (arXiv:2203.02155, section 3.4): how often two labelers who ranked the same answers put a pair in the same order: 72.6% +- 1.5 among
those whose data trained, 77.3% +- 1.3 among held-out ones. Pairs that either ties are left out of that; Krippendorff's alpha takes them as a
third value, and is 0 for chance. Intervals are over items: the pairs of one item are not independent.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from modelyard.desk.work.answers import Ranking
from modelyard.desk.work.export import Label
from modelyard.stats.estimate import Estimate
from modelyard.stats.krippendorff_alpha import bootstrapped_alpha
from modelyard.stats.ratio import bootstrapped_ratio

SEED = 0


class Ranked(NamedTuple):
    """Somebody's order of an item's answers."""

    item: int
    rater: str
    ranks: tuple[int, ...]
    """1 is best."""


class Agreement(NamedTuple):
    """How far some labelers agree."""

    pairwise: Estimate
    """Share of pairs that two of them order alike, ties left out."""
    alpha: Estimate
    """Krippendorff's, of better, worse and tie."""


UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)


def ranked(labels: Iterable[Label]) -> list[Ranked]:
    """The rankings among finished labels."""
    said = ((label, label.said) for label in labels if label.assignment.state == "done")
    return [Ranked(one.item.id, one.labeler.pseudonym, whole(answer)) for one, answer in said if isinstance(answer, Ranking)]


def whole(answer: Ranking) -> tuple[int, ...]:
    """The ranks of a finished ranking."""
    return tuple(rank or 0 for rank in answer.ranks)


def agreement(rankings: Sequence[Ranked]) -> Agreement:
    """Of all who ranked the same items."""
    return Agreement(pairwise(rankings), _alpha([some for some in by_item(rankings).values() if len(some) > 1]))


def pairwise(rankings: Sequence[Ranked]) -> Estimate:
    """How often two labelers order a pair of an item's answers alike."""
    return bootstrapped_ratio([_counted(combinations(some, 2)) for some in by_item(rankings).values()], SEED)


def with_others(rater: str, rankings: Sequence[Ranked]) -> Estimate:
    """How often one labeler orders a pair as another of the same item does."""
    counted = []
    for some in by_item(rankings).values():
        mine = [one for one in some if one.rater == rater]
        counted.append(_counted((one, other) for one in mine for other in some if other.rater != rater))
    return bootstrapped_ratio(counted, SEED)


def with_reference(pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Estimate:
    """How often rankings order a pair as the reference does, over (ranks, reference) of items; a tie where the reference has none is wrong."""
    counted = []
    for mine, known in pairs:
        decided = [(i, j) for i, j in combinations(range(len(known)), 2) if known[i] != known[j]]
        counted.append((sum((mine[i] - mine[j]) * (known[i] - known[j]) > 0 for i, j in decided), len(decided)))
    return bootstrapped_ratio(counted, SEED)


def by_item(rankings: Sequence[Ranked]) -> dict[int, list[Ranked]]:
    """The rankings of each item."""
    found: dict[int, list[Ranked]] = defaultdict(list)
    for one in rankings:
        found[one.item].append(one)
    return found


def _counted(pairs: Iterable[tuple[Ranked, Ranked]]) -> tuple[int, int]:
    """(pairs of answers ordered alike, pairs that both decide)."""
    alike = decided = 0
    for one, other in pairs:
        for i, j in combinations(range(len(one.ranks)), 2):
            product = (one.ranks[i] - one.ranks[j]) * (other.ranks[i] - other.ranks[j])
            alike, decided = alike + (product > 0), decided + (product != 0)
    return alike, decided


def _alpha(items: Sequence[Sequence[Ranked]]) -> Estimate:
    """Over every pair of answers as a unit with the values better, tie and worse.

    Each pair counts in both directions: which of two answers comes first in an item is arbitrary, and where the better one mostly
    does, chance would otherwise seem to agree.
    """
    rows, groups = [], []
    for number, some in enumerate(items):
        for i, j in combinations(range(len(some[0].ranks)), 2):
            signs = np.sign([one.ranks[i] - one.ranks[j] for one in some]) + 1
            counts = np.bincount(signs, minlength=3)
            rows += [counts, counts[::-1]]
            groups += [number, number]
    if not rows:
        return UNKNOWN
    return bootstrapped_alpha(np.array(rows, dtype=np.int64), np.array(groups, dtype=np.int64), "nominal", SEED)
