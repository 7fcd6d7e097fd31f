"""How examples are put into batches: short texts by length, pretraining rows cut to a batch's width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from modelyard.formats.token_rows import PackedRows, Rows
from modelyard.posttrain.rows.masking import fill_rows

T = TypeVar("T")


def length_grouped(lengths: Sequence[int], size: int, generator: np.random.Generator) -> list[list[int]]:
    """One pass over examples of the given lengths in batches of ``size`` of similar length, in random order; a random remainder is left out.

    Padding to the longest of a random batch more than doubles the tokens of short-text batches.
    """
    kept = generator.permutation(len(lengths))[: len(lengths) // size * size]
    ordered = kept[np.argsort(np.asarray(lengths)[kept], kind="stable")].reshape(-1, size)
    return [[int(i) for i in batch] for batch in ordered[generator.permutation(len(ordered))]]


def whole_groups(groups: Sequence[Sequence[T]], micro_batch: int, replicas: int, nothing: T, fewest: int = 1) -> list[T]:
    """The rows of all groups, every group whole in one micro-batch; what is left of a micro-batch, and micro-batches that the replicas lack to
    have equally many and ``fewest`` at least, are filled up with ``nothing``.

    Raises:
        ValueError: a group has more rows than a micro-batch.
    """
    packed = fill_rows([len(group) for group in groups], micro_batch)
    packed += [[] for _ in range(max(-len(packed) % replicas, replicas * fewest - len(packed)))]
    rows: list[T] = []
    for stop, numbers in enumerate(packed, 1):
        rows += [row for number in numbers for row in groups[number]]
        rows += [nothing] * (stop * micro_batch - len(rows))
    return rows


def pretraining_window(rows: Rows, start: int, size: int, width: int) -> PackedRows:
    """``size`` rows of packed pretraining tokens from row ``start`` on (around the end), cut to ``width + 1`` tokens.

    Raises:
        ValueError: the rows are shorter than that.
    """
    taken = rows[(start + np.arange(size)) % len(rows)].cut(width + 1)
    if (found := taken.tokens.shape[1]) <= width:
        raise ValueError(f"pretraining rows of {found} tokens are too short for batches of width {width}")
    return taken
