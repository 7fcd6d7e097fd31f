"""What an engine is given and what a loss gives back: batches, several texts in a row, sums over a micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

UNLABELLED = -100
"""A label that is not asked for: the language model's output there is 0 and costs no product with the output layer."""


class Batch(NamedTuple):
    """Tokens [B, S] and labels [B, S] (int64, :data:`UNLABELLED` where none is wanted), and whatever else the loss needs, each [B, ...]."""

    tokens: Tensor
    labels: Tensor
    extras: Mapping[str, Tensor]

    def rows(self, start: int, stop: int) -> Batch:
        """The rows [start, stop)."""
        return Batch(self.tokens[start:stop], self.labels[start:stop], {key: value[start:stop] for key, value in self.extras.items()})

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        extras = {key: to_device(value, device) for key, value in self.extras.items()}
        return Batch(to_device(self.tokens, device), to_device(self.labels, device), extras)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on ``device``; from the host to a GPU without waiting for what the GPU is doing."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def labelled(labels: Tensor) -> Tensor | slice:
    """Which of labels [b, S], flattened to [S * b], are asked for: their indices, or a slice of all."""
    asked = (labels.t() >= 0).reshape(-1)
    return slice(None) if bool(asked.all()) else asked.nonzero().squeeze(1)


SEGMENTS = "segments"
"""Key of ``extras`` under which a batch says which text of its row each position belongs to [B, S]; without it a row is one text."""
STEM = "stem"
"""Key of ``extras`` beside it: how many leading positions all texts of the row go on from [B]; without it a row's texts share nothing."""


class LossOutput(NamedTuple):
    """Sums over a micro-batch: the loss, the count it is to be divided by (int), and further sums divided by the same count."""

    loss_sum: Tensor
    count: Tensor  # type: ignore[assignment]
    metrics: Mapping[str, Tensor]


LossFn = Callable[[Tensor, Batch], LossOutput]


def segmented(segments: Tensor, stem: Tensor | None = None, window: int | None = None) -> tuple[Tensor, Tensor]:
    """Position in its own text [b, S] int64, and who may see whom [b, 1, S, S] bool: earlier positions of the same text and of the stem.

    With a ``window`` the mask is [b, 2, S, S]; the second one leaves out positions that many or more behind.

    ``segments`` [b, S]: positions of one text are neighbours and have one number; negative ones are padding, at position 0. ``stem`` [b]: the first
    so many positions, with a number of their own, are what every text of the row begins with; its own positions go on from there.
    """
    places = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = torch.where(begins, places, torch.zeros_like(places)).cummax(dim=1).values
    positions, seen = places - starts, segments[:, :, None] == segments[:, None, :]
    if stem is not None:
        positions += starts.minimum(stem[:, None])
        seen |= places[:, None, :] < stem[:, None, None]
    positions.masked_fill_(segments < 0, 0)
    seen &= places[:, :, None] >= places[:, None, :]
    if window is None:
        return positions, seen[:, None]
    near = positions[:, :, None] - positions[:, None, :] < window
    return positions, torch.stack((seen, seen & near), 1)
