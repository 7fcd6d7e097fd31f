"""The images of a batch: tiles, as many as its rows have, and what each position shows of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from modelyard.model.network.vision import TEXT


class Tiles(NamedTuple):
    """The images of a batch's rows. Rows have as many tiles as they have, so a part of the rows has a part of the tiles."""

    pixels: Tensor
    """[N, 3, t, t] uint8: the first row's tiles, then the second's, and so on."""
    counts: Tensor
    """[B] int64: tiles of each row."""
    sources: Tensor
    """[B, S] int64: what each position shows, as :mod:`modelyard.model.network.vision` numbers it within the row's tiles."""

    def rows(self, start: int, stop: int) -> Tiles:
        """The rows [start, stop)."""
        first, count = int(self.counts[:start].sum()), int(self.counts[start:stop].sum())
        return Tiles(self.pixels[first : first + count], self.counts[start:stop], self.sources[start:stop])

    def absolute(self, patches: int) -> Tensor:
        """Sources [B, S] numbered within all tiles, of ``patches`` patches each."""
        before = (self.counts.cumsum(0) - self.counts)[:, None] * patches
        return torch.where(self.sources >= 0, self.sources + before, self.sources)

    def widened(self, fill: tuple[int, int]) -> Tiles:
        """With positions of text added before and after the others."""
        return self._replace(sources=F.pad(self.sources, fill, value=TEXT)) if any(fill) else self

    @property
    def shown(self) -> Tiles | None:
        """Itself, or None where no position shows an image."""
        return self if len(self.pixels) else None
