"""Repeated passages inside a document: runs of words that occurred earlier in the same text are cut (Lee et
al. 2022 cut runs of 50 tokens).

Boilerplate that a page repeats around every item goes, its first occurrence stays. Comparison ignores case,
punctuation and spacing; a word is two or four characters where no spaces are written. Left out: passages that
different documents share (near duplicates are compared whole).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modelyard.data.filters import words


class Shortened(NamedTuple):
    """A text without repetition."""

    text: str
    characters: int
    """How many were cut."""


def cut(texts: list[str], size: int) -> list[Shortened]:
    """Cut every run of at least ``size`` words that occurred before in its text."""
    result: list[Shortened] = []
    for begin, block in words.blocks(texts):
        found = words.words(block, unspaced=True)
        hashes, starts = words.ngrams(found, size)
        again = starts[words.seen_before(hashes, found.documents[starts]) == words.AGAIN]
        covered = words.covered(found, again, size)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], covered, [False]]).astype(np.int8)))
        spans = list(zip(found.starts[edges[0::2]].tolist(), found.ends[edges[1::2] - 1].tolist(), strict=True))
        for number in range(block.starts.size - 1):
            low, high = int(block.starts[number]), int(block.starts[number + 1]) - 1
            mine = [(start - low, end - low) for start, end in spans if low <= start < high]
            result.append(_without(texts[begin + number], mine))
    return result


def _without(text: str, spans: list[tuple[int, int]]) -> Shortened:
    if not spans:
        return Shortened(text, 0)
    kept, last = [], 0
    for start, end in spans:
        kept.append(text[last:start])
        last = end
    left = "".join([*kept, text[last:]])
    return Shortened(left, len(text) - len(left))
