"""Repeated passages inside a document: runs of words that occurred earlier in the same text are cut (Lee et
al. 2022 cut runs of 50 tokens).

Boilerplate that a page repeats around every item goes, its first occurrence stays. A document that would lose more
than half of its characters is refused rather than shredded, as C4's rules refuse one here. Comparison ignores case,
punctuation and spacing; a word is two or four characters where no spaces are written. Left out: passages that
different documents share (near duplicates are compared whole).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modelyard.data.corpus.document import Refusal
from modelyard.data.filters import words

_MOST = 0.5
"""Largest share of a document's characters that is cut."""


class Shortened(NamedTuple):
    """A text without repetition."""

    text: str
    characters: int
    """How many were cut."""
    refusal: Refusal | None = None
    """Why nothing is left; the text is then as it was."""


def cut(texts: list[str], size: int) -> list[Shortened]:
    """Cut every run of at least ``size`` words that occurred before in its text; refuse a text that is mostly such runs."""
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
    gone = len(text) - len(left)
    if gone > _MOST * len(text):
        return Shortened(text, 0, Refusal("repeated_passage/mostly_cut", f"{gone / len(text):.0%} of its characters"))
    return Shortened(left, gone)
