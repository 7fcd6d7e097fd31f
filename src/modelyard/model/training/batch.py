"""What an engine is given and what a loss gives back: batches, several texts in a row, images, sums over a micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from modelyard.model.network.tiles import Tiles
from modelyard.model.network.vision import TEXT

UNLABELLED = -100
"""A label that is not asked for: the language model's output there is 0 and costs no product with the output layer."""


class Batch(NamedTuple):
    """Tokens [B, S] and labels [B, S] (int64, :data:`UNLABELLED` where none is wanted), whatever else the loss needs, each [B, ...], and images."""

    tokens: Tensor
    labels: Tensor
    extras: Mapping[str, Tensor]
    tiles: Tiles | None = None

    def rows(self, start: int, stop: int) -> Batch:
        """The rows [start, stop)."""
        extras = {key: value[start:stop] for key, value in self.extras.items()}
        tiles = self.tiles.rows(start, stop) if self.tiles else None
        return Batch(self.tokens[start:stop], self.labels[start:stop], extras, tiles)

    def filled_up(self, size: int) -> Batch:
        """The batch with its last row repeated until there are ``size``."""
        missing = size - len(self.tokens)
        if not missing:
            return self
        last = self.rows(len(self.tokens) - 1, len(self.tokens))
        return joined([self, *[last] * missing])

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        extras = {key: to_device(value, device) for key, value in self.extras.items()}
        tiles = Tiles(*(to_device(value, device) for value in self.tiles)) if self.tiles else None
        return Batch(to_device(self.tokens, device), to_device(self.labels, device), extras, tiles)


def joined(parts: Sequence[Batch]) -> Batch:
    """Batches of one width and with the same extras, one below the other."""
    tiles = None
    if any(part.tiles for part in parts):
        whole = [part.tiles or no_tiles(part.tokens, parts) for part in parts]
        tiles = Tiles(*(torch.cat([getattr(one, key) for one in whole]) for key in Tiles._fields))
    extras = {key: torch.cat([part.extras[key] for part in parts]) for key in parts[0].extras}
    return Batch(torch.cat([part.tokens for part in parts]), torch.cat([part.labels for part in parts]), extras, tiles)


def no_tiles(tokens: Tensor, beside: Sequence[Batch]) -> Tiles:
    """The tiles of rows [B, S] without an image, beside batches with some."""
    like = next(part.tiles.pixels for part in beside if part.tiles)
    return Tiles(like[:0], torch.zeros(len(tokens), dtype=torch.int64), torch.full_like(tokens, TEXT))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on ``device``; from the host to a GPU without waiting for what the GPU is doing."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


ASKED_AT_ONCE = 64
"""Labels are asked for in multiples of this many: of every other number of rows oneDNN would keep kernels of its own, half a megabyte each."""


def labelled(labels: Tensor) -> Tensor | slice:
    """Which of labels [b, S], flattened to [S * b], are asked for: their indices, or a slice of all.

    Where there are some that are not, as many of them go along as make a multiple of :data:`ASKED_AT_ONCE`, or all there are.
    """
    asked = (labels.t() >= 0).reshape(-1)
    if bool(asked.all()):
        return slice(None)
    places = asked.nonzero().squeeze(1)
    beside = (~asked).nonzero().squeeze(1)[: -len(places) % ASKED_AT_ONCE]
    return torch.cat([places, beside])


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


def segmented(
    segments: Tensor, stem: Tensor | None = None, window: int | None = None, own: slice | Tensor = slice(None)
) -> tuple[Tensor, Tensor]:
    """Position in its own text [b, S'] int64, and who may see whom [b, 1, S', S] bool: earlier positions of the same text and of the stem.

    With a ``window`` the mask is [b, 2, S', S]; the second one leaves out positions that many or more behind. ``own``: the S' positions that are
    asked for; all where it is absent.

    ``segments`` [b, S]: positions of one text are neighbours and have one number; negative ones are padding, at position 0. ``stem`` [b]: the first
    so many positions, with a number of their own, are what every text of the row begins with; its own positions go on from there.
    """
    places = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = torch.where(begins, places, torch.zeros_like(places)).cummax(dim=1).values
    positions, seen = places - starts, segments[:, own, None] == segments[:, None, :]
    if stem is not None:
        positions += starts.minimum(stem[:, None])
        seen |= places[:, None, :] < stem[:, None, None]
    positions.masked_fill_(segments < 0, 0)
    seen &= places[:, own, None] >= places[:, None, :]
    asked = positions[:, own]
    if window is None:
        return asked, seen[:, None]
    near = asked[:, :, None] < (positions + window)[:, None, :]
    return asked, torch.stack((seen, seen & near), 1)
