"""Demonstrations in batches, and their loss on held-out ones: what the stages that imitate demonstrations share.

A row is one demonstration, several that share it side by side, or several of one image, which stands in it once. Which rows a step takes is
a function of seed and step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from modelyard.formats.feedback import Demonstration
from modelyard.formats.token_rows import Rows
from modelyard.model.training.batch import SEGMENTS, STEM, UNLABELLED, Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import sequences
from modelyard.posttrain.rows.album import NO_ALBUM, Album
from modelyard.posttrain.rows.masking import Example, alike, averaged, fill_rows, pack_examples, room, stem_of, sums_of_examples
from modelyard.posttrain.rows.sampling import length_grouped, pretraining_window
from modelyard.stats.estimate import Estimate, bootstrap_mean

Average = Literal["token", "square", "sample"]
POWERS: dict[Average, float] = {"token": 0.0, "square": 0.5, "sample": 1.0}
"""Each token of an example of n counts n to the power of minus this."""
VALIDATION_ROWS = 64
"""Rows of validation demonstrations that are padded together."""


class Batches(NamedTuple):
    """What is trained on, step by step."""

    batch: Callable[[int], Batch]
    per_epoch: int
    """Steps of a pass over the demonstrations."""
    density: float
    """Share of the demonstrations' rows that is no padding."""


class Rowed(Protocol):
    """What a config says of a batch's rows."""

    @property
    def seed(self) -> int:
        """Order of the examples."""

    @property
    def pack(self) -> bool:
        """Whether short demonstrations share rows."""

    @property
    def average(self) -> Average:
        """What the loss is the mean over."""

    @property
    def share_images(self) -> int:
        """Most demonstrations of one image that share a row."""

    @property
    def demonstrations_per_batch(self) -> int:
        """Rows of demonstrations."""

    @property
    def pretraining_per_batch(self) -> int:
        """Rows of pretraining text."""


def times(repeat: Mapping[str, int], shown: Sequence[Demonstration]) -> list[int]:
    """How often a pass shows each demonstration. Raises ValueError where one of ``repeat``'s sources has none."""
    sources = {one.source for one in shown}
    if unknown := sorted(repeat.keys() - sources):
        raise ValueError(f"repeat: no demonstration is of {unknown[0]!r}, only of {', '.join(sorted(sources))}")
    return [repeat.get(one.source, 1) for one in shown]


def fit(examples: Sequence[Example], width: int) -> list[Example]:
    """The examples that fit in a row of ``width`` positions; raises ValueError if none does."""
    fitting = [example for example in examples if example.length <= width]
    if not fitting:
        raise ValueError(f"no demonstration fits in {width} positions")
    return fitting


def batches(
    examples: Sequence[Example],
    pretraining: Rows | None,
    config: Rowed,
    pad_id: int,
    width: int,
    album: Album = NO_ALBUM,
    repeats: Sequence[int] = (),
) -> Batches:
    """Step -> batch: rows of demonstrations first, then pretraining rows cut to the batch's width.

    Packed rows are ``width`` wide and taken in random order; otherwise a row is one demonstration, or those that share an image, beside others of
    similar length. Documents of a pretraining row see each other unless the rows keep them apart; where demonstrations share a row that is longer
    than theirs, theirs are padded. ``repeats``: how often a pass has each example (absent: once), never twice in a row.
    """
    size, mixed = config.demonstrations_per_batch, config.pretraining_per_batch
    rows = []
    for nth in range(max(repeats, default=1)):
        again = [number for number in range(len(examples)) if not repeats or repeats[number] > nth]
        some = [examples[number] for number in again]
        found = fill_rows([one.length for one in some], width) if config.pack else alike(some, album.placeholder, config.share_images)
        rows += [[again[place] for place in row] for row in found]
    if len(rows) < size:
        raise ValueError(f"{len(rows)} rows of demonstrations do not fill one batch of {size}")
    groups = [[examples[i] for i in row] for row in rows]
    stems = [0 if config.pack else stem_of(group) for group in groups]
    taken = [room(group, stem) for group, stem in zip(groups, stems, strict=True)]
    widths = [width] * len(rows) if config.pack else taken
    longest = pretraining[np.arange(1)].tokens.shape[1] - 1 if pretraining is not None else 0

    @lru_cache(maxsize=2)
    def grouped(epoch: int) -> list[list[int]]:
        return length_grouped(widths, size, np.random.default_rng([config.seed, epoch]))

    def batch(step: int) -> Batch:
        epoch, place = divmod(step, len(rows) // size)
        chosen = grouped(epoch)[place]
        packed = pack_examples([groups[r] for r in chosen], pad_id, width if config.pack else None, [stems[r] for r in chosen])
        tokens, labels, mask = packed.rows
        segments, stem, images = packed.segments, packed.stems, packed.images
        apart, shares = config.pack or any(len(rows[r]) > 1 for r in chosen), bool(stem.any())
        if pretraining is not None:
            wide = tokens.shape[1] if stem.max() == 0 else min(tokens.shape[1], longest)
            text = sequences(pretraining_window(pretraining, step * mixed, mixed, wide))
            fill = (0, tokens.shape[1] - wide)
            tokens, labels = (
                torch.cat([tokens, F.pad(text.tokens, fill, value=pad_id)]),
                torch.cat([labels, F.pad(text.labels, fill, value=UNLABELLED)]),
            )
            mask = torch.cat([mask, F.pad(torch.ones(mixed, wide), fill)])
            segments = torch.cat([segments, F.pad(text.extras.get(SEGMENTS, torch.zeros_like(text.tokens)), fill, value=-1)])
            stem, images = torch.cat([stem, stem.new_zeros(mixed)]), [*images, *[()] * mixed]
            apart |= SEGMENTS in text.extras
        mask = averaged(mask, segments, POWERS[config.average])
        extras = {"mask": mask} | ({SEGMENTS: segments} if apart else {}) | ({STEM: stem} if shares else {})
        return Batch(tokens, labels, extras, album.tiles(tokens, images))

    filled = sum(max(widths[r] for r in group) * size for group in grouped(0))
    density = sum(taken[r] for group in grouped(0) for r in group) / filled
    return Batches(batch, len(rows) // size, density)


def validation_loss(
    engine: Engine, examples: Sequence[Example], micro_batch: int, pad_id: int, seed: int, album: Album = NO_ALBUM, share_images: int = 1
) -> Estimate:
    """-log p a trained token, in nats; the interval is a bootstrap over examples with their token counts taken as fixed.

    At most ``share_images`` examples of one image share a row, as in training, which changes nothing but the time.
    """
    sums: list[float] = []
    tokens = 0.0
    groups = [[examples[i] for i in group] for group in alike(examples, album.placeholder, share_images)]
    groups.sort(key=lambda group: room(group, stem_of(group)))
    for start in range(0, len(groups), VALIDATION_ROWS):
        part = groups[start : start + VALIDATION_ROWS]
        packed = pack_examples(part, pad_id, stems=[stem_of(group) for group in part])
        rows, shares = packed.rows, any(len(group) > 1 for group in part)
        texts = {SEGMENTS: packed.segments, STEM: packed.stems} if shares else {}
        logprobs = engine.evaluate(Batch(rows.tokens, rows.labels, texts, album.tiles(rows.tokens, packed.images)), micro_batch).cpu()
        sums += sums_of_examples(-(logprobs * rows.mask), packed, [len(group) for group in part])
        tokens += float(rows.mask.sum())
    return bootstrap_mean([one * len(examples) / tokens for one in sums], seed)
