"""Which examples a step trains on: a pure function of (seed, step), so a resumed run sees what an uninterrupted one sees.

Example ``k`` of a run is entry ``k mod N`` of the permutation of epoch ``k // N``: nothing is skipped or repeated at an epoch boundary, whatever
the batch size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=4)
def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of ``range(count)`` for one pass over the data."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def epoch_indices(count: int, seed: int, start: int, size: int) -> list[int]:
    """The examples at positions [start, start + size) of endlessly repeated, freshly shuffled passes over ``count`` examples."""
    return [int(epoch_order(count, seed, at // count)[at % count]) for at in range(start, start + size)]
