"""Attention on a CPU that leaves out what a mask hides: pieces of the queries, each against the keys that one of them sees.

Rows of several texts hide most of a row from most of its positions, and torch's flash kernel computes what a mask hides as it does the rest. Here
it is asked piece by piece, in both directions, and what keys and values learn is summed over the pieces. Left out: pieces of single rows; one has
the keys that any row of the batch needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

PIECE = 64
"""Queries of a piece: fewer see fewer keys, more are one call of the kernel."""
WORTH = 0.8
"""Pieces are taken where they leave at most this part of all pairs of a query and a key."""

_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Masks that layers have in common -> type -> what :func:`pieces_of` says."""
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Piece(NamedTuple):
    """Queries and all that they see."""

    queries: slice
    keys: Tensor
    """Their places [k], int64."""
    mask: Tensor
    """[b, 1, queries, k] of the queries' type: 0 where one sees the other, -inf elsewhere."""


def pieces_of(mask: Tensor, dtype: torch.dtype) -> list[Piece] | None:
    """The pieces of a ``mask`` [b, 1, sq, sk] bool, or None where it hides too little; of one that is asked about again as before."""
    known = _known.setdefault(mask, {})
    if dtype not in known:
        known[dtype] = _cut(mask, dtype)
    return known[dtype]


def _cut(mask: Tensor, dtype: torch.dtype) -> list[Piece] | None:
    seen, length = mask[:, 0].view(torch.uint8).amax(0), mask.shape[2]  # of bytes this is ten times as fast as of bools
    cuts = [slice(start, min(start + PIECE, length)) for start in range(0, length, PIECE)]
    keys = [seen[cut].amax(0).nonzero().squeeze(1) for cut in cuts]
    if sum((cut.stop - cut.start) * len(some) for cut, some in zip(cuts, keys, strict=True)) > WORTH * seen.numel():
        return None
    return [Piece(cut, some, _added(mask[:, :, cut].index_select(3, some), dtype)) for cut, some in zip(cuts, keys, strict=True)]


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, float("-inf"))


class PiecewiseAttention(torch.autograd.Function):
    """Query [b, heads, sq, d], key and value [b, groups, sk, d], pieces and the scale of scores -> context [b, heads, sq, d]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, pieces: Sequence[Piece], scale: float | None) -> Tensor:
        """The context, and what the backward pass needs of it."""
        found, norms = torch.empty_like(query), query.new_empty(query.shape[:3], dtype=torch.float32)
        for cut, keys, mask in pieces:
            near = (query[:, :, cut], key.index_select(2, keys), value.index_select(2, keys))
            found[:, :, cut], norms[:, :, cut] = _flash(*near, 0.0, False, attn_mask=mask, scale=scale)
        ctx.save_for_backward(query, key, value, found, norms)
        ctx.pieces, ctx.scale = pieces, scale
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """What query, key and value learn."""
        query, key, value, found, norms = ctx.saved_tensors
        of_query, of_key, of_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for cut, keys, mask in ctx.pieces:
            near = (query[:, :, cut], key.index_select(2, keys), value.index_select(2, keys), found[:, :, cut], norms[:, :, cut])
            parts = _flash_backward(grad[:, :, cut], *near, 0.0, False, attn_mask=mask, scale=ctx.scale)
            of_query[:, :, cut] = parts[0]
            of_key.index_add_(2, keys, parts[1])
            of_value.index_add_(2, keys, parts[2])
        return of_query, of_key, of_value, None, None
