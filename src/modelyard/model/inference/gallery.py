"""Images among the tokens of what a model is asked: their positions' embeddings, under numbers beyond the vocabulary.

Every position of an image has a number of its own, the same wherever the image stands, so what is shared between questions by their tokens
(:mod:`modelyard.model.inference.queries`) is shared exactly where the images are the same too. Embeddings are computed when they are first asked
for, and some are kept. Left out: gradients; training has :class:`~modelyard.model.training.batch.Tiles`.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modelyard.model.network import parallel
from modelyard.model.network.tiles import Tiles
from modelyard.model.network.vision import NEWLINE, TEXT
from modelyard.model.pictures import Pictures
from modelyard.model.training.engine import Engine

KEPT_BYTES = 1 << 28
"""Embeddings that are kept."""
ENCODED = 32
"""Images that go through the encoder at once."""


class Gallery:
    """The images of one call or server."""

    def __init__(self, engine: Engine, pictures: Pictures, placeholder: int) -> None:
        self.engine, self.pictures, self.placeholder = engine, pictures, placeholder
        self._images: list[str] = []
        self._starts: list[int] = []
        self._first: dict[str, int] = {}
        self._end = engine.model.vocab_size
        self._kept: OrderedDict[object, Tensor] = OrderedDict()
        self._bytes = 0

    def numbered(self, ids: Sequence[int], images: Sequence[str]) -> list[int]:
        """Token ids with the placeholders of ``images`` as the numbers of their positions. Raises ValueError where they do not fit."""
        numbers = [number for image in images for number in self._numbers(image)]
        if sum(token == self.placeholder for token in ids) != len(numbers):
            raise ValueError(
                f"a prompt has {sum(token == self.placeholder for token in ids)} placeholders for {len(numbers)} positions of images"
            )
        left = iter(numbers)
        return [next(left) if token == self.placeholder else token for token in ids]

    def _numbers(self, image: str) -> range:
        if image not in self._first:
            self._images.append(image)
            self._starts.append(self._end)
            self._first[image] = self._end
            self._end += self.pictures.positions(image)
        first = self._first[image]
        return range(first, first + self.pictures.positions(image))

    def places(self, ids: Tensor) -> Tensor:
        """Which of ids [...] are positions of images."""
        return ids >= self.engine.model.vocab_size

    def embed(self, ids: Tensor, hidden: Tensor) -> Tensor:
        """Embeddings [b, n, h] of ids [b, n], of which those of images are put in. Every tensor-parallel rank calls it."""
        places = self.places(ids)
        if not bool(places.any()):
            return hidden
        wanted = ids[places].cpu()
        starts = torch.tensor(self._starts)
        owners, which = (torch.bucketize(wanted, starts, right=True) - 1).unique(return_inverse=True)
        found = self._features([self._images[owner] for owner in owners.tolist()])
        before = torch.tensor([0, *map(len, found)]).cumsum(0)[:-1]
        rows = torch.cat(found)[(before[which] + wanted - starts[owners][which]).to(hidden.device)]
        hidden = hidden.clone()
        hidden[places] = rows.to(hidden.dtype)
        return hidden

    def words(self, ids: Tensor) -> Tensor:
        """Ids with something of the vocabulary in the place of images."""
        return ids.masked_fill(self.places(ids), 0)

    def spelled(self, ids: Sequence[int]) -> list[int]:
        """Ids as the tokenizer has them, placeholders for images."""
        return [self.placeholder if number >= self.engine.model.vocab_size else number for number in ids]

    def batch(self, ids: Tensor) -> tuple[Tensor, Tiles | None]:
        """Rows of ids [B, S] as the training forward takes them: tokens, and the tiles of whatever images are in them."""
        places = self.places(ids)
        if not bool(places.any()):
            return ids, None
        sources, cut, counts = torch.full_like(ids, TEXT), [], []
        for row, line in enumerate(ids.tolist()):
            before: dict[int, int] = {}
            count = 0
            for at in places[row].nonzero().squeeze(1).tolist():
                owner = bisect.bisect_right(self._starts, line[at]) - 1
                if owner not in before:
                    before[owner] = count * self.pictures.vision.patches
                    cut.append(self.pictures.tiles(self._images[owner]))
                    count += len(cut[-1])
                source = int(self.pictures.sources(self._images[owner])[line[at] - self._starts[owner]])
                sources[row, at] = source + before[owner] if source >= 0 else source
            counts.append(count)
        tokens = ids.masked_fill(places, self.placeholder)
        return tokens, Tiles(torch.from_numpy(np.concatenate(cut)), torch.tensor(counts), sources)

    def _features(self, images: Sequence[str]) -> list[Tensor]:
        """Embeddings [n, H] of each image's positions."""
        keys = [self.pictures.key(image) for image in images]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        fresh = {key: image for key, image in zip(keys, images, strict=True) if key not in found}
        names = list(fresh)
        for start in range(0, len(names), ENCODED):
            found.update(self._encoded({key: fresh[key] for key in names[start : start + ENCODED]}))
        for key in found:
            self._keep(key, found[key])
        return [found[key] for key in keys]

    def _encoded(self, images: Mapping[object, str]) -> dict[object, Tensor]:
        """Embeddings of images by their keys, all of them in one forward of the encoder."""
        cut = [self.pictures.tiles(image) for image in images.values()]
        pixels = torch.from_numpy(np.concatenate(cut)).to(parallel.device())
        with torch.inference_mode():
            features = self.engine.gpt.vision(pixels)
        found, before = {}, 0
        for (key, image), tiles in zip(images.items(), cut, strict=True):
            sources = torch.from_numpy(self.pictures.sources(image).copy()).to(features.device)
            found[key] = features[torch.where(sources == NEWLINE, len(features) - 1, sources + before)]
            before += len(tiles) * self.pictures.vision.patches
        return found

    def _keep(self, key: object, features: Tensor) -> None:
        """Remember, and forget what was asked for longest ago."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return
        self._kept[key] = features
        self._bytes += features.nbytes
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


def embedded(ids: Tensor, weight: Tensor, gallery: Gallery | None) -> Tensor:
    """Rows [..., h] of an embedding for ids, 0 where images stand."""
    return F.embedding(ids if gallery is None else gallery.words(ids), weight)
