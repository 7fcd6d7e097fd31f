"""How much a person's ranking of an item would say: most where a reward model is unsure or judges disagree.

Uncertainty sampling over pairs (Lewis and Gale 1994): by the Bradley-Terry model a reward model prefers one of two answers with
probability sigmoid(r_i - r_j); its entropy is 1 bit where the two score alike. Left out: how alike items are to each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations


def unsureness(scores: Sequence[float]) -> float:
    """Mean entropy over all pairs of answers, bits from 0 to 1; 0 without scores."""
    pairs = [entropy(1 / (1 + math.exp(-min(abs(a - b), 700.0)))) for a, b in combinations(scores, 2)]
    return sum(pairs) / len(pairs) if pairs else 0.0


def disagreement(judges: Sequence[Sequence[int]]) -> float:
    """Share of (pair of answers, pair of judges) on which the two judges differ, ties counting half; 0 without two judges."""
    differ: list[float] = []
    for one, other in combinations(judges, 2):
        for i, j in combinations(range(len(one)), 2):
            differ.append(abs(_sign(one[j] - one[i]) - _sign(other[j] - other[i])) / 2)
    return sum(differ) / len(differ) if differ else 0.0


def entropy(p: float) -> float:
    """Of a coin, bits."""
    return 0.0 if p in (0.0, 1.0) else -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
