"""How well scores rank: average precision, with its bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelyard.stats.estimate import Estimate, bootstrap


def average_precision(scores: Sequence[float] | npt.NDArray[np.float64], positive: Sequence[bool] | npt.NDArray[np.bool_]) -> float:
    """Area under precision over recall as a sum over ranks, tied scores taken together; NaN without a positive."""
    values, right = np.asarray(scores, np.float64), np.asarray(positive, bool)
    total = int(right.sum())
    if not total:
        return math.nan
    order = np.argsort(-values, kind="stable")
    hits, ranked = np.cumsum(right[order]), values[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    found = hits[ends]
    return float((np.diff(found, prepend=0) / total * found / (ends + 1)).sum())


def average_precision_interval(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], seed: int) -> Estimate:
    """Average precision of one ranking, resampled over its items."""
    return bootstrap(lambda drawn: average_precision(scores[drawn], positive[drawn]), positive.size, seed)
