"""Packs documents into rows of ``seq_len + 1`` tokens (Brown et al. 2020, appendix B: documents separated by end-of-text, no padding).

The mixture: a kind gets its share of the token budget but never more epochs than its cap (repeating up to about four times costs little,
Muennighoff et al. 2023, arXiv:2305.16264). Every epoch is a new shuffle, all kinds' documents are shuffled together, then rows are. Each
document *follows* an end-of-text, so a model always starts a text after that token. Left out: masks between packed documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.config import Config
from modelyard.data.corpus.document import Kind
from modelyard.data.tokens.tokenizer import END_OF_TEXT

Tokens = npt.NDArray[np.uint16]


class Share(Config):
    """What one kind contributes."""

    weight: float
    """Share of the token budget, relative to the other kinds' weights."""
    max_epochs: float
    """Most times that its documents are repeated."""


class Planned(NamedTuple):
    """What one kind really contributes."""

    tokens: int
    """Tokens in the mixture."""
    epochs: float
    """Times its documents are seen."""


def plan(available: Mapping[Kind, int], mixture: Mapping[Kind, Share], budget: int) -> dict[Kind, Planned]:
    """Tokens of each kind: its weight's part of ``budget``, or what its epochs cap allows. Kinds not in the mixture get nothing."""
    present = {kind: share for kind, share in mixture.items() if available.get(kind, 0) and share.weight > 0}
    total = sum(share.weight for share in present.values())
    planned = {}
    for kind, share in present.items():
        tokens = min(budget * share.weight / total, available[kind] * share.max_epochs)
        planned[kind] = Planned(int(tokens), tokens / available[kind])
    return planned


def select(documents: list[Tokens], tokens: int, generator: np.random.Generator) -> list[Tokens]:
    """Documents in shuffled epochs until ``tokens`` (each counted with its separator) are reached."""
    chosen: list[Tokens] = []
    while tokens > 0:
        for index in generator.permutation(len(documents)):
            if tokens <= 0:
                break
            chosen.append(documents[index])
            tokens -= documents[index].size + 1
    return chosen


def pack(documents: list[Tokens], seq_len: int, end_of_text: int = END_OF_TEXT) -> Tokens:
    """Rows [N, seq_len + 1] of the documents, each preceded by end-of-text; the incomplete last row is dropped."""
    separator = np.array([end_of_text], np.uint16)
    stream = np.concatenate([part for document in documents for part in (separator, document)] or [separator])
    rows = stream.size // (seq_len + 1)
    return stream[: rows * (seq_len + 1)].reshape(rows, seq_len + 1)
