"""Agreement of any number of raters beyond chance: Krippendorff's alpha (Krippendorff 2011, Hayes and Krippendorff 2007), computed by
the package ``krippendorff``, with a percentile interval over groups of units (Efron 1979)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modelyard.stats.estimate import Estimate, bootstrap

Level = Literal["nominal", "ordinal", "interval"]


def alpha(counts: NDArray[np.int64], level: Level) -> float:
    """1 - observed / expected disagreement of [units, values] counts; NaN where no unit has two ratings or only one value was ever given."""
    import krippendorff

    paired = counts[counts.sum(1) > 1]
    if not len(paired) or (paired.sum(0) > 0).sum() < 2:
        return math.nan
    return float(krippendorff.alpha(value_counts=paired, value_domain=np.arange(counts.shape[1]), level_of_measurement=level))


def bootstrapped_alpha(counts: NDArray[np.int64], groups: NDArray[np.int64], level: Level, seed: int, resamples: int = 300) -> Estimate:
    """Alpha of [units, values] counts with an interval over groups [units], which are drawn whole: the pairs of one item stay together."""
    names, place = np.unique(groups, return_inverse=True)
    if not len(names):
        return Estimate(math.nan, math.nan, math.nan, 0)
    rows = [np.flatnonzero(place == number) for number in range(len(names))]
    return bootstrap(lambda drawn: alpha(counts[np.concatenate([rows[i] for i in drawn])], level), len(names), seed, resamples)
