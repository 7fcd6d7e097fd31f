"""Which positions are trained on: completion tokens only, never the prompt, never the padding.

Position ``t`` of a row holds input token ``t`` and predicts label ``t``, which is token ``t + 1``; a mask is therefore aligned with
labels. It is true exactly where the label belongs to the completion, the closing token included. InstructGPT (arXiv:2203.02155, appendix
C.1) trains on demonstrations; that the prompt's tokens carry no loss is the field's practice, the paper is silent. In a conversation every
turn of the assistant's is trained on. Several short examples may share a row: each is a segment of its own that sees nothing of the others
(:mod:`modelyard.model.training.batch`), so the loss is that of a row each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from modelyard.model.training.batch import UNLABELLED


class Example(NamedTuple):
    """One prompt with its completion, as token ids."""

    prompt: list[int]
    completion: list[int]
    earlier: tuple[tuple[int, int], ...] = ()
    """[start, stop) of what the assistant said before, in the prompt: trained on as well."""

    @property
    def length(self) -> int:
        """Positions that it takes in a row."""
        return len(self.prompt) + len(self.completion) - 1


class Rows(NamedTuple):
    """Examples as rectangles, all [B, S]."""

    tokens: Tensor
    """int64 input tokens, padded on the right."""
    labels: Tensor
    """int64 next tokens; ``UNLABELLED`` where the mask is 0, so that no logits are computed there."""
    mask: Tensor
    """float32, 1 where the label is trained on."""


def pad_examples(examples: Sequence[Example], pad_id: int, length: int | None = None) -> Rows:
    """Rows of one example each, ``length`` wide (default: just wide enough for the longest).

    Raises:
        ValueError: no examples, an empty prompt or completion, or an example that needs more than ``length`` positions.
    """
    return pack_examples([[example] for example in examples], pad_id, length).rows


class Packed(NamedTuple):
    """Several examples to a row."""

    rows: Rows
    segments: Tensor
    """[B, S] int64: which example of its row a position belongs to, counted from 0; padding is the one after the last."""


def pack_examples(groups: Sequence[Sequence[Example]], pad_id: int, length: int | None = None) -> Packed:
    """Rows of the examples of each group side by side, ``length`` wide (default: just wide enough).

    Raises:
        ValueError: as :func:`pad_examples`.
    """
    if not groups or not all(groups):
        raise ValueError("a batch needs at least one example")
    longest = max(sum(example.length for example in group) for group in groups)
    width = longest if length is None else length
    if longest > width:
        raise ValueError(f"an example needs {longest} positions, a row has {width}")
    tokens, labels = (torch.full((len(groups), width), pad_id, dtype=torch.int64) for _ in range(2))
    mask = torch.zeros(len(groups), width)
    segments = torch.zeros(len(groups), width, dtype=torch.int64)
    for row, group in enumerate(groups):
        start = 0
        for number, (prompt, completion, earlier) in enumerate(group):
            if not prompt or not completion:
                raise ValueError(f"example {row}: prompt and completion need at least one token each")
            whole, stop = torch.tensor(prompt + completion), start + len(prompt) + len(completion) - 1
            tokens[row, start:stop], labels[row, start:stop] = whole[:-1], whole[1:]
            segments[row, start:] = number
            for first, last in (*earlier, (len(prompt), len(prompt) + len(completion))):
                mask[row, start + first - 1 : start + last - 1] = 1.0
            start = stop
        segments[row, start:] = len(group)
    return Packed(Rows(tokens, labels.masked_fill(mask == 0, UNLABELLED), mask), segments)


def fill_rows(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Which examples share a row of ``width`` positions: the longest first, each into the first row with room for it (first-fit decreasing).

    Raises:
        ValueError: an example is longer than a row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[index] > width:
            raise ValueError(f"{lengths[index]} positions do not fit in a row of {width}")
        place = next((i for i, left in enumerate(room) if left >= lengths[index]), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(width)
        rows[place].append(index)
        room[place] -= lengths[index]
    return rows


def last_positions(mask: Tensor) -> Tensor:
    """[B, S] -> [B]: index of the last true position of every row; raises ValueError for a row without one."""
    if not bool(mask.bool().any(dim=1).all()):
        raise ValueError("a row has no completion position")
    positions = torch.arange(mask.shape[1], device=mask.device)
    return (mask.bool() * positions).argmax(dim=1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` is true; what stands elsewhere, NaN included, is never read."""
    return masked_sum(values, mask) / mask.sum()


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of ``values`` (any shape) weighted by ``mask`` (same shape); where it is 0 the value, NaN included, is never read."""
    return (torch.where(mask.bool(), values, torch.zeros_like(values)) * mask).sum()


def pad_lines(lines: Sequence[Sequence[int]], fill: int) -> Tensor:
    """[B, S] int64: the lines, filled up on the right to the longest."""
    width = max(map(len, lines))
    return torch.tensor([[*line, *[fill] * (width - len(line))] for line in lines], dtype=torch.int64)
