"""Keys and values of the sequences that are decoded, one layer's, and attention over them.

What all sequences begin with (a few-shot preface) is kept once for all: a step's queries meet it in one product, so its keys and values are read
from memory once instead of once a sequence (Juravsky et al. 2024, "Hydragen"). The r queries of a key group stand side by side, so grouped
attention is plain attention. Left out: kernels that skip what is masked.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from modelyard.model.inference.attend import attend, behind
from modelyard.model.inference.block import Block
from modelyard.model.network import attention, onednn, parallel


class Beginning(NamedTuple):
    """Keys [groups, d, P] and values [groups, P, d] of the P tokens that all sequences begin with."""

    keys: Tensor
    values: Tensor

    def __len__(self) -> int:
        return self.keys.shape[-1]


class Cache:
    """Keys [b * groups, d, length] and values [b * groups, length, d] of one layer, behind their :class:`Beginning` where they have one."""

    def __init__(self, block: Block, batch: int, length: int, dtype: torch.dtype) -> None:
        self.ratio, self.scale, self.window = block.ratio, block.scale or block.width**-0.5, block.window
        self.groups, rows = block.groups, batch * block.groups
        dtype = onednn.product_dtype(dtype, parallel.device())  # they are factors of every later step
        # zeros: a masked place must not hold what is no number
        self.keys = torch.zeros(rows, block.width, length, dtype=dtype, device=parallel.device())
        self.values = torch.zeros(rows, length, block.width, dtype=dtype, device=parallel.device())
        self.nothing = self.keys.new_zeros(1)
        self.beginning: Beginning | None = None

    def keep(self, rows: Tensor) -> None:
        """Leave out all sequences but ``rows`` [n]."""
        self.keys, self.values = (
            kept.view(-1, self.groups, *kept.shape[1:]).index_select(0, rows).flatten(0, 1) for kept in (self.keys, self.values)
        )

    def begin(self, turned: Tensor, value: Tensor) -> Tensor:
        """Context [1, P, heads * d] of what all sequences begin with (see :meth:`Block.heads`), whose keys and values are remembered once."""
        key = turned[..., self.ratio, :]
        keys, values = (x[0].to(self.keys.dtype) for x in (key, value))
        self.beginning = Beginning(keys.permute(1, 2, 0).contiguous(), values.transpose(0, 1).contiguous())
        return attend(turned[..., : self.ratio, :].flatten(2, 3), key, value, None, self.scale)

    def read(self, turned: Tensor, value: Tensor, mask: Tensor | None, rows: slice | Tensor, of: slice | Tensor) -> Tensor:
        """Context [b, n, heads * d] of the first n tokens of b sequences, behind the beginning.

        They are ``rows`` of the batch; where several of those are alike, ``of`` says which of the b each of them is. ``mask``: who sees whom,
        [b or 1, 1 or 2, n, n] (None: causal), or [b or 1, 1, n, P + n] behind a beginning, or as :func:`~modelyard.model.inference.attend.added`
        lays it out.
        """
        batch, count, groups, _, _ = turned.shape
        query, key = turned[..., : self.ratio, :].flatten(2, 3), turned[..., self.ratio, :]
        self.keys.unflatten(0, (-1, groups))[rows, ..., :count] = key.permute(0, 2, 3, 1)[of].to(self.keys.dtype)
        self.values.unflatten(0, (-1, groups))[rows, :, :count] = value.transpose(1, 2)[of].to(self.keys.dtype)
        if self.beginning is not None:
            key, value = behind(self.beginning.keys.permute(2, 0, 1), key), behind(self.beginning.values.transpose(0, 1), value)
        else:
            mask = attention.layer_mask(mask, self.window, batch, count, query.device)
        return attend(query, key, value, mask, self.scale)

    def step(self, turned: Tensor, value: Tensor, column: int, mask: Tensor | None) -> Tensor:
        """Context [b, 1, heads * d] of one more token of every sequence, at ``column``; ``mask`` [b * groups, 1, length] is added to its scores.

        All of a group's queries are rows of one product, and see the whole cache or its window.
        """
        batch, _, groups, _, width = turned.shape
        end = column + 1
        self.keys[:, :, column] = turned[..., self.ratio, :].reshape(-1, width)
        self.values[:, column] = value.reshape(-1, width)
        query = turned[:, 0, :, : self.ratio].reshape(batch * groups, self.ratio, width).to(self.keys.dtype)
        seen = slice(max(0, end - self.window) if self.window else 0, end)
        hidden, beta = (self.nothing, 0) if mask is None else (mask[..., seen], 1)
        scores = torch.baddbmm(hidden, query, self.keys[:, :, seen], beta=beta, alpha=self.scale)
        if self.beginning is None:
            context = torch.bmm(torch.softmax(scores, -1), self.values[:, seen])
        else:
            first = torch.bmm(self._by_group(query), self.beginning.keys).mul_(self.scale)
            weights = torch.softmax(torch.cat([self._by_sequence(first), scores], -1), -1)
            of_first, of_own = weights.split([len(self.beginning), scores.shape[-1]], -1)
            context = torch.bmm(of_own, self.values[:, seen])
            context += self._by_sequence(torch.bmm(self._by_group(of_first), self.beginning.values))
        return context.view(batch, 1, -1).to(value.dtype)

    def _by_group(self, x: Tensor) -> Tensor:
        """[b * groups, r, n] -> [groups, b * r, n]: what meets the beginning, for each key group in one product."""
        return x.unflatten(0, (-1, self.groups)).transpose(0, 1).flatten(1, 2)

    def _by_sequence(self, x: Tensor) -> Tensor:
        """The other way."""
        return x.unflatten(1, (-1, self.ratio)).transpose(0, 1).flatten(0, 1)
