"""When two scores of a model are equal but for rounding.

A network's score is a chain of sums, and two computations of one score may add in different orders: by another kernel, on another processor, in
another place of a batch. Sums of k terms then differ by about sqrt(k) roundings (Higham and Mary 2019, theorem 2.4, with its constant at 1). Here
k is 4,096, the longest reduction of the models that are trained here. In bfloat16 sums are kept in fp32, and each result is rounded once. Scores are
log-odds up to a constant, so a difference is measured against the scores' size and never against less than one. Left out: gaps that are larger
than rounding and smaller than chance, which intervals are for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Format = Literal["fp32", "bf16"]
Scores = TypeVar("Scores", "float", "NDArray[np.float64]", "Tensor")

ROUNDING: dict[Format, float] = {"fp32": 64 * 2.0**-23, "bf16": 2.0**-7}
"""Largest difference of equal scores as a share of their size: sqrt(4,096) epsilons of fp32, one of bfloat16."""


def preferred(first: Scores, second: Scores, precision: Format) -> Scores:
    """1 where ``first`` is the higher score, 0 where it is the lower one, 0.5 where they tie; elementwise for arrays and tensors (broadcast).

    ``precision``: the format of the scoring model's weights and activations.
    """
    bound = ROUNDING[precision] * (1 + abs(first) + abs(second))
    return (first - second > bound) + 0.5 * (abs(first - second) <= bound)
