"""What a language model sees of an image: tiles at its own aspect ratio, and which patch of which tile each position shows.

The geometry is LLaVA-NeXT's (Liu et al. 2024, "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge"; transformers' ``llava_next``): an overview,
which is the whole image squeezed into one tile, then the image without distortion on the grid of tiles that loses least of it, row by row of patches,
each row closed by a learned newline. Rows and columns that only pad the grid are left out. The patch encoder's shape is SigLIP's (Zhai et al. 2023).
Pure; pixels are :mod:`modelyard.model.pictures`', the modules :mod:`modelyard.model.network.patch_encoder`'s.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from modelyard.config import Config

TEXT, NEWLINE = -1, -2
"""A position's source where it is no patch: a token's embedding, or the learned end of a row of patches."""


class VisionConfig(Config):
    """Patch encoder and projector that put images among a language model's embeddings."""

    tile: int = Field(ge=1)
    """Side of a tile, in pixels (LLaVA-NeXT: 336)."""
    patch: int = Field(ge=1)
    """Side of a patch, in pixels (LLaVA-NeXT: 14)."""
    grids: tuple[tuple[int, int], ...] = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
    """Rows x columns of tiles that an image may be laid out on, besides its overview (LLaVA-NeXT's are the default)."""
    layers: int = Field(ge=1)
    """Transformer blocks of the patch encoder."""
    hidden: int = Field(ge=1)
    """Its width."""
    heads: int = Field(ge=1)
    """Its attention heads."""
    ffn_hidden: int = Field(ge=1)
    """Width inside its feed-forward blocks."""
    norm_eps: float = Field(default=1e-6, gt=0)
    """Epsilon of its norms."""

    @model_validator(mode="after")
    def _shape(self) -> VisionConfig:
        if self.tile % self.patch:
            raise ValueError(f"tile {self.tile} is not divisible by patch {self.patch}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not divisible by heads {self.heads}")
        if not self.grids or min(side for grid in self.grids for side in grid) < 1:
            raise ValueError("grids: needs at least one, of at least one row and column of tiles")
        return self

    @property
    def side(self) -> int:
        """Patches along a tile's side."""
        return self.tile // self.patch

    @property
    def patches(self) -> int:
        """Patches of a tile."""
        return self.side**2

    def parameters(self, hidden: int, tensor_parallel: int = 1) -> int:
        """Trainable parameters of encoder, projector and newline on one of ``tensor_parallel`` ranks, for a language model of width ``hidden``."""
        h, f = self.hidden, self.ffn_hidden
        split = 4 * h * h + 3 * h + 2 * h * f + f  # matrices, and biases of those that are split by their outputs
        layer = split // tensor_parallel + 2 * h + 4 * h  # the other two biases, two norms
        embedding = 3 * self.patch**2 * h + h + self.patches * h
        projector = (h * hidden + hidden + hidden * hidden) // tensor_parallel + hidden
        return embedding + self.layers * layer + projector + hidden

    def check_layout(self, hidden: int, tensor_parallel: int) -> None:
        """Raise ValueError when the encoder, or the projector to a model of width ``hidden``, cannot be split so."""
        for key, value in (("vision.heads", self.heads), ("vision.ffn_hidden", self.ffn_hidden), ("hidden", hidden)):
            if value % tensor_parallel:
                raise ValueError(f"model.{key} {value} is not divisible by execution.tensor_parallel {tensor_parallel}")


def best_grid(vision: VisionConfig, width: int, height: int) -> tuple[int, int]:
    """Rows and columns of tiles for an image: those that keep most of its pixels and then waste least, the first of equals."""
    best, kept_best, wasted_least = vision.grids[0], -1, 0
    for rows, columns in vision.grids:
        room_w, room_h = columns * vision.tile, rows * vision.tile
        scale = min(room_w / width, room_h / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        wasted = room_w * room_h - kept
        if kept > kept_best or (kept == kept_best and wasted < wasted_least):
            best, kept_best, wasted_least = (rows, columns), kept, wasted
    return best


def fitted(width: int, height: int, room_width: int, room_height: int) -> tuple[int, int]:
    """Width and height of an image enlarged or reduced to fill a room, its aspect ratio kept."""
    by_width, by_height = room_width / width, room_height / height
    if by_width < by_height:
        return room_width, min(math.ceil(height * by_width), room_height)
    return min(math.ceil(width * by_height), room_width), room_height


def is_its_overview(vision: VisionConfig, width: int, height: int) -> bool:
    """Whether the grid is one tile that shows just what the overview shows, so that one is enough to compute."""
    return width == height and best_grid(vision, width, height) == (1, 1)


def tile_count(vision: VisionConfig, width: int, height: int) -> int:
    """Tiles of an image, its overview among them."""
    rows, columns = best_grid(vision, width, height)
    return 1 if is_its_overview(vision, width, height) else 1 + rows * columns


@functools.lru_cache(maxsize=4096)
def sources(vision: VisionConfig, width: int, height: int) -> NDArray[np.int64]:
    """What each position of an image shows [n]: patch ``p`` of its tile ``t`` as ``t * patches + p``, or :data:`NEWLINE`."""
    rows, columns = best_grid(vision, width, height)
    down, across = np.meshgrid(np.arange(rows * vision.side), np.arange(columns * vision.side), indexing="ij")
    first = 0 if is_its_overview(vision, width, height) else 1
    tiles = first + down // vision.side * columns + across // vision.side
    shown = tiles * vision.patches + down % vision.side * vision.side + across % vision.side
    shown = _without_padding(shown, width, height)
    closed = np.concatenate([shown, np.full((len(shown), 1), NEWLINE)], 1)
    found = np.concatenate([np.arange(vision.patches), closed.reshape(-1)]).astype(np.int64)
    found.setflags(write=False)
    return found


def _without_padding(grid: NDArray[np.int64], width: int, height: int) -> NDArray[np.int64]:
    """The patches [rows, columns] without those that only pad the image, as transformers' ``unpad_image`` counts them."""
    rows, columns = grid.shape
    if width / height > columns / rows:
        padding = (rows - int(round(height * (columns / width), 7))) // 2
        return grid[padding : rows - padding]
    padding = (columns - int(round(width * (rows / height), 7))) // 2
    return grid[:, padding : columns - padding]
