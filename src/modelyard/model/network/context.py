"""Context parallelism: the ranks of a context group share out the positions of every row (``execution.context_parallel``).

A row of S positions is cut into 2 C pieces for C ranks, and rank r has pieces r and 2 C - 1 - r, so that under the causal mask each has as much
to do (as megatron-core's ``get_batch_on_this_cp_rank`` cuts it). Keys and values of all positions are gathered (Grattafiori et al. 2024,
section 3.3.2), queries stay. Outputs are gathered too, so a loss sees whole rows and every stage trains as on one rank. Left out: rings (Liu et
al. 2023), images.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def own_places(length: int, size: int, rank: int) -> Tensor:
    """Positions [S / C], of a row of ``length``, that context rank ``rank`` of ``size`` has; ``length`` is a multiple of 2 ``size``."""
    pieces = torch.arange(length).view(2 * size, -1)
    return torch.cat((pieces[rank], pieces[2 * size - 1 - rank]))


def gathered(own: Tensor, group: Any, *, apart: bool) -> Tensor:
    """Every position's part [S, ...], in order, from each rank's own [S / C, ...].

    ``apart``: ranks go on to compute different things from it, whose gradients are summed; else all compute the same, and each keeps its own
    part of the gradient.
    """
    from megatron.core.tensor_parallel import gather_from_sequence_parallel_region

    size = group.size()
    ranks = gather_from_sequence_parallel_region(own.contiguous(), tensor_parallel_output_grad=apart, group=group)
    early, late = ranks.view(size, 2, -1, *own.shape[1:]).unbind(1)  # each rank's two pieces; a GPU would wait for a list of indices
    return torch.cat((early, late.flip(0))).flatten(0, 1)


def pieces(length: int, size: int, rank: int) -> list[tuple[slice, int]]:
    """The two runs of this rank's ``length`` positions and where in the whole row each begins."""
    half = length // 2
    return [(slice(0, half), rank * half), (slice(half, length), (2 * size - 1 - rank) * half)]
