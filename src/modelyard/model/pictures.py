"""Images as a language model is shown them: pixels cut into tiles, and the tiles of a batch.

What is resized and where is :mod:`modelyard.model.network.vision`'s; how, is transformers' ``LlavaNextImageProcessor`` on Pillow: bicubic on whole
bytes, what the grid has too much of in black. A blank picture has an image's size and one grey, so that a model that is trained or asked without
seeing has everything else the same. Left out: animations, transparency (stages that take images in make them RGB).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from modelyard.model.network.tiles import Tiles
from modelyard.model.network.vision import TEXT, VisionConfig, best_grid, fitted, is_its_overview, sources

GREY = 128
"""Every channel of a blank picture: what the encoder is given is 0 but for rounding."""
KEPT_BYTES = 1 << 28
"""Tiles that are kept once cut."""

Pixels = NDArray[np.uint8]


class Images(Protocol):
    """Where pixels come from (:class:`modelyard.formats.stored_images.ImageFiles`)."""

    def pixels(self, image: str) -> Pixels:
        """[h, w, 3] of the image with this id. Raises ValueError where there is none."""

    def size(self, image: str) -> tuple[int, int]:
        """Its width and height."""


class Pictures:
    """Images by their ids, as a model of one :class:`VisionConfig` is shown them."""

    def __init__(self, vision: VisionConfig, images: Images, blank: bool = False) -> None:
        """``blank``: every image is grey."""
        self.vision, self.images, self.blank = vision, images, blank
        self._kept: OrderedDict[object, Pixels] = OrderedDict()
        self._bytes = 0

    def sources(self, image: str) -> NDArray[np.int64]:
        """What each of its positions shows [n]."""
        return sources(self.vision, *self.images.size(image))

    def positions(self, image: str) -> int:
        """Positions that it takes in a text."""
        return len(self.sources(image))

    def key(self, image: str) -> object:
        """Equal for images that are shown alike: blank ones of one size."""
        return self.images.size(image) if self.blank else image

    def tiles(self, image: str) -> Pixels:
        """[N, 3, t, t], its overview first."""
        key = self.key(image)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        width, height = self.images.size(image)
        pixels = np.full((height, width, 3), GREY, np.uint8) if self.blank else self.images.pixels(image)
        cut = tiles_of(self.vision, pixels)
        self._kept[key] = cut
        self._bytes += cut.nbytes
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return cut

    def shown(self, tokens: Tensor, images: Sequence[Sequence[str]], placeholder: int) -> Tiles | None:
        """The tiles of rows of tokens [B, S], each with its images in the order of their placeholders; None where no row has any."""
        if not any(images):
            return None
        found, counts, placed = [], [], torch.full_like(tokens, TEXT)
        for row, (line, some) in enumerate(zip(tokens, images, strict=True)):
            parts, cut = [], [self.tiles(image) for image in some]
            before = 0
            for image, tiles in zip(some, cut, strict=True):
                own = self.sources(image)
                parts.append(np.where(own >= 0, own + before * self.vision.patches, own))
                before += len(tiles)
            places = (line == placeholder).nonzero().squeeze(1)
            whole = np.concatenate(parts) if parts else np.zeros(0, np.int64)
            assert len(places) == len(whole), f"{len(places)} placeholders for {len(whole)} positions of images"
            placed[row, places] = torch.from_numpy(whole)
            counts.append(before)
            found += cut
        return Tiles(torch.from_numpy(np.concatenate(found)), torch.tensor(counts), placed)


def tiles_of(vision: VisionConfig, pixels: Pixels) -> Pixels:
    """[h, w, 3] -> its tiles [N, 3, t, t]."""
    height, width = pixels.shape[:2]
    image, tile = Image.fromarray(pixels), vision.tile
    overview = _resized(image, tile, tile)[None]
    if is_its_overview(vision, width, height):
        return np.ascontiguousarray(overview.transpose(0, 3, 1, 2))
    rows, columns = best_grid(vision, width, height)
    new_width, new_height = fitted(width, height, columns * tile, rows * tile)
    left, top = (columns * tile - new_width) // 2, (rows * tile - new_height) // 2
    whole = np.zeros((rows * tile, columns * tile, 3), np.uint8)
    whole[top : top + new_height, left : left + new_width] = _resized(image, new_width, new_height)
    cut = whole.reshape(rows, tile, columns, tile, 3).transpose(0, 2, 1, 3, 4).reshape(-1, tile, tile, 3)
    return np.ascontiguousarray(np.concatenate([overview, cut]).transpose(0, 3, 1, 2))


def _resized(image: Image.Image, width: int, height: int) -> Pixels:
    return np.asarray(image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC))
