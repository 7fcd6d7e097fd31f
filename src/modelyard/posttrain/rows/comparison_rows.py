"""How comparisons become rows for the reward model: each text a row, or all texts of a comparison in one row that shares their beginning.

InstructGPT (arXiv:2203.02155, section 3.5) does one forward pass per completion, so a prompt is computed K times. In a shared row it stands once
(the stem: whatever the texts begin with), and each text goes on from it, seeing the stem and itself
(:func:`modelyard.model.training.batch.segmented`). Attention is causal, so nothing in the stem depends on what follows: scores and gradients
are those of separate rows. Only the balancing loss of experts differs, which counts the stem once. Left out: several comparisons in a row, texts
that share more with each other than with the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from modelyard.formats.feedback import Comparison
from modelyard.model.inference.queries import shared_length
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.training.batch import SEGMENTS, STEM, Batch
from modelyard.posttrain.losses import NO_COMPARISON
from modelyard.posttrain.rows.masking import pad_lines
from modelyard.posttrain.rows.sharing import WORTH, row_work


class Encoded(NamedTuple):
    """A comparison and its completions as token ids, prompt first."""

    comparison: Comparison
    texts: list[list[int]]

    @property
    def longest(self) -> int:
        """Tokens of its longest text."""
        return max(map(len, self.texts))

    @property
    def stem(self) -> int:
        """Tokens with which all its texts begin; each keeps one of its own, where its score is read."""
        return min(shared_length(self.texts), min(map(len, self.texts)) - 1)

    @property
    def together(self) -> int:
        """Tokens of the row that all its texts share."""
        return sum(map(len, self.texts)) - (len(self.texts) - 1) * self.stem


class Row(NamedTuple):
    """Texts in a row."""

    tokens: list[int]
    segments: list[int]
    """0 on the stem, i on the i-th text's own tokens."""
    stem: int
    """Tokens of the stem."""
    ends: list[int]
    """Where each text's last token is."""
    ranks: list[int]
    """Higher is better."""
    comparison: list[int]
    """The comparison of each text, by its number in the batch."""


NOTHING = Row([], [], 0, [], [], [])
"""A row that only fills a micro-batch."""


def shares(comparisons: Sequence[Encoded], model: ModelConfig) -> bool:
    """Whether shared rows save a tenth of the model's work on all of these or more."""
    apart = sum(row_work(model, len(text), len(text) / 2) for one in comparisons for text in one.texts)  # causal attention leaves out half
    return sum(row_work(model, one.together, one.together) for one in comparisons) <= WORTH * apart


def rows_of(number: int, one: Encoded, shared: bool) -> list[Row]:
    """The rows of a comparison, which is to be known by its ``number``: one if they are ``shared``, or else one for each text."""
    ranks = [-rank for rank in one.comparison.ranks]  # the loss wants the better one higher
    if shared:
        return [row_of(one.texts, one.stem, number, ranks)]
    return [row_of([text], 0, number, [rank]) for text, rank in zip(one.texts, ranks, strict=True)]


def row_of(texts: Sequence[list[int]], stem: int, number: int = NO_COMPARISON, ranks: Sequence[int] = ()) -> Row:
    """The row of texts that begin with the same ``stem`` tokens; without ranks they are only to be scored."""
    tokens, segments, ends = texts[0][:stem], [0] * stem, []
    for branch, text in enumerate(texts, 1):
        tokens = tokens + text[stem:]
        segments += [branch] * (len(text) - stem)
        ends.append(len(tokens) - 1)
    return Row(tokens, segments, stem, ends, list(ranks or [0] * len(texts)), [number] * len(texts))


def batch_of(rows: Sequence[Row], shared: bool, pad_id: int) -> Batch:
    """The rows as rectangles, with the extras that :func:`modelyard.posttrain.losses.reward_loss` reads."""
    tokens = pad_lines([row.tokens for row in rows], pad_id)
    extras = {
        "ends": pad_lines([row.ends for row in rows], 0),
        "rank": pad_lines([row.ranks for row in rows], 0),
        "comparison": pad_lines([row.comparison for row in rows], NO_COMPARISON),
    }
    if shared:
        extras |= {SEGMENTS: pad_lines([row.segments for row in rows], -1), STEM: torch.tensor([row.stem for row in rows])}
    return Batch(tokens, tokens, extras)
