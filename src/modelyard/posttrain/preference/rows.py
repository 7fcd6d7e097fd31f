"""Comparisons and thumbs as batches: a row for every completion, with the extras that :mod:`modelyard.posttrain.preference.losses` reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from modelyard.model.training.batch import UNLABELLED, Batch
from modelyard.posttrain.losses import NO_COMPARISON
from modelyard.posttrain.preference.config import KTOConfig
from modelyard.posttrain.preference.ranked import Ranked
from modelyard.posttrain.rows.masking import Example, pad_examples


class Row(NamedTuple):
    """A completion."""

    example: Example | None
    """None in a row that only fills a micro-batch."""
    comparison: int
    """The comparison (or thumb) it belongs to, by its number in the batch."""
    rank: int
    """Higher is better."""
    reference: float
    """log p of the completion by the reference model."""
    best: bool
    """Whether nothing of its comparison is preferred to it."""
    thumb: int
    """What a thumb says, 1 good and -1 bad; of a comparison's 1: better than more of it than it is worse than, -1: the contrary, 0: as many."""


NOTHING = Row(None, NO_COMPARISON, 0, 0.0, False, 0)


def rows_of(number: int, one: Ranked, reference: Sequence[float]) -> list[Row]:
    """The rows of a comparison or thumb, which is to be known by its ``number``."""
    best = min(one.ranks)
    return [
        Row(example, number, -rank, logprob, rank == best, thumb)
        for example, rank, logprob, thumb in zip(one.examples, one.ranks, reference, one.thumbs, strict=True)
    ]


def batch_of(rows: Sequence[Row], pad_id: int) -> Batch:
    """The rows as rectangles. ``ce_weight`` makes -log p of the best completions, divided by comparisons, a mean over their tokens."""
    real = [place for place, row in enumerate(rows) if row.example is not None]
    padded = pad_examples([row.example for row in rows if row.example is not None], pad_id)
    width = padded.tokens.shape[1]
    tokens, labels = (torch.full((len(rows), width), fill) for fill in (pad_id, UNLABELLED))
    mask = torch.zeros(len(rows), width)
    tokens[real], labels[real], mask[real] = padded
    best = mask * torch.tensor([[float(row.best)] for row in rows])
    extras = {
        "mask": mask,
        "comparison": torch.tensor([row.comparison for row in rows]),
        "rank": torch.tensor([row.rank for row in rows]),
        "reference": torch.tensor([row.reference for row in rows]),
        "thumb": torch.tensor([float(row.thumb) for row in rows]),
        "ce_weight": best * (comparisons_in(row.comparison for row in rows) / best.sum()),
    }
    return Batch(tokens, labels, extras)


def comparisons_in(numbers: Iterable[int]) -> int:
    """Comparisons that rows are of, by their numbers."""
    return len(set(numbers) - {NO_COMPARISON})


def with_thumbs(batch: Batch, config: KTOConfig, kl: float) -> Batch:
    """The batch with the extras of KTO's loss: ``kl``, the weight of every thumb, and for each side ``liked`` and ``disliked``, by which a sum
    divided by all thumbs is a mean over those of that side."""
    thumbs: Tensor = batch.extras["thumb"]
    weight = thumbs.abs() * torch.where(thumbs > 0, config.desirable_weight, config.undesirable_weight)
    sides = {"liked": (thumbs > 0).float(), "disliked": (thumbs < 0).float()}
    shares = {name: side * (thumbs.abs().sum() / side.sum().clamp(min=1)) for name, side in sides.items()}
    return Batch(batch.tokens, batch.labels, {**batch.extras, **shares, "weight": weight, "kl": torch.full_like(thumbs, kl)})
