"""Attention of many tokens at once over keys and values that inference has in its hands.

A CPU's kernel takes keys in blocks; what is left over goes slowly, so masks hide a few keys more than there are. Left out: steps of one token,
which are plain products (:mod:`modelyard.model.inference.cache`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ALIGNED = 16
"""Keys that a CPU's kernel sees are a multiple of it: 3 rows of 81 tokens in bf16 take 0.36 instead of 0.63 ms a layer (docs/benchmarks.md)."""


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Who sees whom [..., n, m] as attention's kernel takes it best: on a CPU as numbers to add to scores, of a multiple of :data:`ALIGNED` keys."""
    if mask.device.type == "cuda":
        return mask
    mask = F.pad(mask, (0, -mask.shape[-1] % ALIGNED))
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, float("-inf"))


def behind(beginning: Tensor, own: Tensor) -> Tensor:
    """Keys or values [P, groups, d] that all rows begin with before each row's own [b, n, groups, d]: [b, P + n, groups, d]."""
    return torch.cat([beginning.to(own.dtype).expand(len(own), -1, -1, -1), own], 1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """q [b, n, heads, d] over k, v [b, m, groups, d] -> [b, n, heads * d].

    ``mask`` [b or 1, 1, n, m or more], of bools or what is :func:`added` to scores (None: causal); what it has beyond m keys hides what is not there.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if mask is not None and (more := mask.shape[-1] - k.shape[2]):
        k, v = (F.pad(x, (0, 0, 0, more)) for x in (k, v))
    grouped = q.shape[1] != k.shape[1]
    context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=grouped)
    return context.transpose(1, 2).flatten(2)
