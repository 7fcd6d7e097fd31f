"""Near copies among images: perceptual hashes that differ in few bits (Zauner 2010: the DCT of a small grey picture), then pictures side by side."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.images import Image

COPY_BITS, COPY_LEVELS = 8, 32
"""Bits in which the perceptual hashes of copies differ at most, and levels of 255 by which a colour of their 16 x 16 pictures does."""


class NearCopies:
    """Images that are looked for among others: perceptual hashes find who may be a copy, small pictures side by side say who is.

    Plain drawings share hashes by the hundred (of easy-VQA's test pictures 61% lie within 2 bits of one to train on), so a hash alone convicts
    nobody. What is found and what is taken for a copy: ``python -m bench.image_copies``. Every hash is looked at.
    """

    def __init__(self, images: Iterable[Image] = ()) -> None:
        self._ids: list[str] = []
        self._hashes = np.zeros(64, dtype=np.uint64)
        self._small = np.zeros((64, 16, 16, 3), dtype=np.uint8)
        for image in images:
            self.add(image)

    def add(self, image: Image) -> None:
        """One more that others may copy."""
        if len(self._ids) == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._small = np.concatenate([self._small, np.zeros_like(self._small)])
        place = len(self._ids)
        self._hashes[place], self._small[place] = int(image.phash, 16), _shrunk(image)
        self._ids.append(image.id)

    def of(self, image: Image) -> str:
        """The id of the first image that this one is, or nearly copies; "" where there is none."""
        bits = np.bitwise_count(self._hashes[: len(self._ids)] ^ np.uint64(int(image.phash, 16)))
        near = np.flatnonzero(bits <= COPY_BITS)
        if not len(near):
            return ""
        levels = np.abs(self._small[near] - _shrunk(image).astype(np.int16)).max(axis=(1, 2, 3))
        alike = near[levels <= COPY_LEVELS]
        return self._ids[alike[0]] if len(alike) else ""


def _shrunk(image: Image) -> NDArray[np.uint8]:
    """[16, 16, 3]."""
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(image.png)) as opened:
        return np.asarray(opened.convert("RGB").resize((16, 16), Pillow.Resampling.BOX))
