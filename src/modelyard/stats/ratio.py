"""A ratio of sums over groups of unequal size, with a percentile bootstrap over the groups (Efron 1979).

Such as pairs that two labelers order alike, of pairs that both decide, where an item brings many pairs and they are not independent.
Where all groups have the same ratio the interval is Wilson's (1927) over groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from modelyard.stats.estimate import Estimate, proportion

RESAMPLES = 1000


def bootstrapped_ratio(counted: Sequence[tuple[int, int]], seed: int) -> Estimate:
    """Sum of hits over sum of tries of (hits, tries) a group, those without a try left out; ``n`` is the number of tries, NaN without one."""
    whole = np.array([pair for pair in counted if pair[1]], dtype=np.int64).reshape(-1, 2)
    if not len(whole):
        return Estimate(math.nan, math.nan, math.nan, 0)
    hits, tries = whole.sum(0)
    weights = np.random.default_rng(seed).multinomial(len(whole), np.full(len(whole), 1 / len(whole)), RESAMPLES)
    sums = weights @ whole
    draws = sums[:, 0] / sums[:, 1]
    value, (low, high) = float(hits / tries), np.quantile(draws, [0.025, 0.975])
    if low == high:  # all groups alike: resampling them knows no doubt, so each counts as one trial
        _, low, high, _, _ = proportion(value * len(whole), len(whole))
    return Estimate(value, min(float(low), value), max(float(high), value), int(tries), float(draws.std(ddof=1)))
