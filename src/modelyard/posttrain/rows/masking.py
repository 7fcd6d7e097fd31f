"""Which positions are trained on: completion tokens only, never the prompt, never the padding.

Position ``t`` of a row holds input token ``t`` and predicts label ``t``, which is token ``t + 1``; a mask is therefore aligned with
labels. It is true exactly where the label belongs to the completion, the closing token included. InstructGPT (arXiv:2203.02155, appendix
C.1) trains on demonstrations; that the prompt's tokens carry no loss is the field's practice, the paper is silent. In a conversation every
turn of the assistant's is trained on. Several short examples may share a row: each is a segment of its own that sees nothing of the others
(:mod:`modelyard.model.training.batch`), so the loss is that of a row each. Examples that begin with the same tokens and images may share that
beginning too: it stands in the row once, and each goes on from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from modelyard.model.inference.queries import shared_length
from modelyard.model.training.batch import UNLABELLED


class Example(NamedTuple):
    """One prompt with its completion, as token ids."""

    prompt: list[int]
    completion: list[int]
    earlier: tuple[tuple[int, int], ...] = ()
    """[start, stop) of what the assistant said before, in the prompt: trained on as well."""
    images: tuple[str, ...] = ()
    """Ids of the prompt's images, in the order of their placeholders."""

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
    stems: Tensor
    """[B] int64: leading positions that all examples of the row go on from."""
    images: list[tuple[str, ...]]
    """Ids of each row's images, in the order of their placeholders."""


def pack_examples(
    groups: Sequence[Sequence[Example]], pad_id: int, length: int | None = None, stems: Sequence[int] | None = None
) -> Packed:
    """Rows of the examples of each group side by side, ``length`` wide (default: just wide enough).

    ``stems``: for each group the leading tokens, their images among them, that stand in its row once; the first example's segment has them.

    Raises:
        ValueError: as :func:`pad_examples`.
    """
    if not groups or not all(groups):
        raise ValueError("a batch needs at least one example")
    shared = [0] * len(groups) if stems is None else stems
    longest = max(room(group, stem) for group, stem in zip(groups, shared, strict=True))
    width = longest if length is None else length
    if longest > width:
        raise ValueError(f"an example needs {longest} positions, a row has {width}")
    tokens, labels = (torch.full((len(groups), width), pad_id, dtype=torch.int64) for _ in range(2))
    mask = torch.zeros(len(groups), width)
    segments = torch.zeros(len(groups), width, dtype=torch.int64)
    for row, group in enumerate(groups):
        start = 0
        for number, (prompt, completion, earlier, _) in enumerate(group):
            if not prompt or not completion:
                raise ValueError(f"example {row}: prompt and completion need at least one token each")
            skipped = shared[row] if number else 0
            whole, begin = torch.tensor(prompt + completion)[skipped:], start - skipped
            stop = start + len(whole) - 1
            tokens[row, start:stop], labels[row, start:stop] = whole[:-1], whole[1:]
            segments[row, start:] = number
            for first, last in (*earlier, (len(prompt), len(prompt) + len(completion))):
                mask[row, begin + first - 1 : begin + last - 1] = 1.0
            start = stop
        segments[row, start:] = len(group)
        if shared[row]:
            segments[row, shared[row] :] += 1  # the stem has a number of its own
    images = [
        group[0].images if stem else tuple(i for one in group for i in one.images) for group, stem in zip(groups, shared, strict=True)
    ]
    return Packed(Rows(tokens, labels.masked_fill(mask == 0, UNLABELLED), mask), segments, torch.tensor(shared), images)


def averaged(mask: Tensor, segments: Tensor, power: float) -> Tensor:
    """``mask`` [B, S] with weights in proportion to n^-``power`` for each token of a segment of n trained tokens: 0 leaves tokens alike, 1 examples.

    They sum to the number of trained tokens, so that any cut of the batch into micro-batches counts whole numbers.
    """
    if not power:
        return mask
    numbers = segments.clamp(min=0)  # what is -1 is padding, and its mask 0
    counts = mask.new_zeros(len(mask), int(numbers.max()) + 1).scatter_add(1, numbers, mask)
    weights = mask * counts.clamp(min=1).pow(-power).gather(1, numbers)
    return weights * (mask.sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny))


def sums_of_examples(values: Tensor, packed: Packed, counts: Sequence[int]) -> list[float]:
    """``values`` [B, S] summed over each example, row by row; ``counts``: examples of each row."""
    each = values.new_zeros(len(counts), int(packed.segments.max()) + 1).scatter_add(1, packed.segments, values)
    found: list[float] = []
    for sums, count, stem in zip(each.tolist(), counts, packed.stems.tolist(), strict=True):
        first = 1 if stem else 0  # the stem has a number of its own, and nothing of it is trained on
        found += sums[first : first + count]
    return found


def room(group: Sequence[Example], stem: int = 0) -> int:
    """Positions of a row that examples take, of which the first ``stem`` are theirs together."""
    return sum(example.length for example in group) - (len(group) - 1) * stem


def first_trained(example: Example) -> int:
    """The first token of an example that is trained on."""
    return example.earlier[0][0] if example.earlier else len(example.prompt)


def alike(examples: Sequence[Example], placeholder: int, most: int) -> list[list[int]]:
    """Examples in groups of at most ``most`` that begin alike up to the end of their last image; every other example by itself.

    A group's stem is :func:`stem_of`'s. ``placeholder``: the token that images stand as.
    """
    found: dict[tuple[object, ...], list[int]] = {}
    for number, example in enumerate(examples):
        key: tuple[object, ...] = (number,)
        if example.images and most > 1:
            end = len(example.prompt) - example.prompt[::-1].index(placeholder)
            if end < first_trained(example):  # the token before what is trained on is each example's own
                key = (example.images, tuple(example.prompt[:end]))
        found.setdefault(key, []).append(number)
    return [group[start : start + most] for group in found.values() for start in range(0, len(group), most)]


def stem_of(group: Sequence[Example]) -> int:
    """Leading tokens that several examples can go on from together; none of one example."""
    if len(group) < 2:
        return 0
    return min(shared_length([example.prompt for example in group]), min(map(first_trained, group)) - 1)


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
