"""Completions as models read them: each in a row of its own, or several of one prompt in a row that has the prompt once.

What models say of them is kept by completion, [N, S]; a row's labels are its completions' in the same order, so that numbers move between the two
by their masks alone. Attention is causal, so that a shared row says what separate rows say; only the balancing loss of experts differs, which
counts the prompt once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import gcd
from typing import NamedTuple

import torch
from torch import Tensor

from modelyard.model.network.model_config import ModelConfig
from modelyard.model.training.batch import SEGMENTS, STEM, Batch
from modelyard.model.training.engine import Engine
from modelyard.posttrain.rows.masking import Example, Rows, pack_examples, pad_examples
from modelyard.posttrain.rows.sharing import texts_of_a_row


class Together(NamedTuple):
    """The completions of an iteration in their rows."""

    rows: Rows
    """A completion each, [N, S]."""
    batch: Batch
    """As models read them, [R, S']: ``texts`` completions to a row."""
    mask: Tensor
    """[R, S'] bool: true on the completions' labels."""
    texts: int
    """Completions of a row: 1, or a divisor of a micro-batch."""

    def micro_batch(self, completions: int) -> int:
        """Rows of a forward pass over so many completions."""
        return max(1, completions // self.texts)

    def said(self, engine: Engine, completions: int) -> Tensor:
        """[N, S]: what ``engine`` says of every label of the completions, ``completions`` of them in a forward pass."""
        found = engine.evaluate(self.batch, self.micro_batch(completions)).cpu()
        if self.texts == 1:
            return found
        values = found.new_zeros(self.rows.mask.shape)
        values[self.rows.mask.bool()] = found[self.mask]
        return values

    def completions_of(self, chosen: Tensor) -> Tensor:
        """The completions of the ``chosen`` rows [r], in order."""
        return (chosen[:, None] * self.texts + torch.arange(self.texts)).flatten()

    def batch_of(self, chosen: Tensor, extras: dict[str, Tensor]) -> Batch:
        """The ``chosen`` rows [r] with numbers that are known by completion, ``extras`` [r * texts, S], zero outside the mask."""
        mine = Batch(self.batch.tokens[chosen], self.batch.labels[chosen], {key: value[chosen] for key, value in self.batch.extras.items()})
        if self.texts == 1:
            return mine._replace(extras={**mine.extras, **extras})
        here, there = self.mask[chosen], self.rows.mask[self.completions_of(chosen)].bool()
        moved = {key: value.new_zeros(here.shape) for key, value in extras.items()}
        for key, value in extras.items():
            moved[key][here] = value[there]
        return mine._replace(extras={**mine.extras, **moved})


def together(examples: Sequence[Example], model: ModelConfig, most: int, pad_id: int) -> Together:
    """Completions in rows; neighbours of one prompt share a row where that saves work, at most ``most`` of them."""
    rows, shared = pad_examples(examples, pad_id), [len(one.prompt) - 1 for one in examples]  # the last token says what comes first
    texts = texts_of_a_row(model, [one.length for one in examples], shared, repeats([one.prompt for one in examples]), most)
    if texts == 1:
        return alone(rows)
    starts = range(0, len(examples), texts)
    packed = pack_examples([examples[i : i + texts] for i in starts], pad_id, None, [shared[i] for i in starts])
    extras = {SEGMENTS: packed.segments, STEM: packed.stems}
    return Together(rows, Batch(packed.rows.tokens, packed.rows.labels, extras), packed.rows.mask.bool(), texts)


def alone(rows: Rows) -> Together:
    """A row each."""
    return Together(rows, Batch(rows.tokens, rows.labels, {}), rows.mask.bool(), 1)


def repeats(prompts: Sequence[Sequence[int]]) -> int:
    """Of how many neighbours with one prompt the prompts consist: their greatest common divisor."""
    return gcd(*(len(list(run)) for _, run in groupby(prompts)))
