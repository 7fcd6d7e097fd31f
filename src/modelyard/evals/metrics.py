"""Scores of items become metrics. Pure functions; intervals come from :mod:`modelyard.stats.estimate`.

pass@k is the unbiased estimator of Chen et al. 2021 (equation 1), not 1 - (1 - c/n)^k. Left out: tests between two models
(``release.compare``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from modelyard.stats.estimate import Estimate, proportion


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """1 - C(n-c, k) / C(n, k): the chance that k of the n samples, drawn without replacement, hold a correct one.

    Raises:
        ValueError: k is not in [1, n] or c not in [0, n].
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(f"pass@{k} of {correct} correct in {samples} samples: need 1 <= k <= n and 0 <= c <= n")
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def accuracy(scores: Sequence[float]) -> Estimate:
    """Share of right items with Wilson's interval."""
    return proportion(sum(scores), len(scores))


def perplexity(nats: Estimate) -> Estimate:
    """exp of a mean negative log-likelihood in nats a token, and of its interval."""
    return Estimate(math.exp(nats.value), math.exp(nats.low), math.exp(nats.high), nats.n)


def average_precision(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Area under precision over recall as a sum over ranks, tied scores taken together; NaN without a positive."""
    ranked = sorted(zip(scores, positive, strict=True), key=lambda pair: -pair[0])
    total = sum(positive)
    if not total:
        return math.nan
    area, hits, seen, before = 0.0, 0, 0, 0
    for place, (score, hit) in enumerate(ranked):
        hits, seen = hits + hit, seen + 1
        if place + 1 == len(ranked) or ranked[place + 1][0] != score:
            area, before = area + (hits - before) / total * hits / seen, hits
    return area


def repetition(tokens: Sequence[int], order: int = 3) -> float:
    """Share of n-grams that occurred before in the same sequence (rep-n; Welleck et al. 2020, section 6): 0 for none, near 1 for a loop."""
    grams = [tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1)]
    return 1.0 - len(Counter(grams)) / len(grams) if grams else 0.0
