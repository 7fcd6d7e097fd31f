"""Lines and paragraphs of a block of documents, and how much of a document repeats an earlier one of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.data.filters import native, words
from modelyard.data.filters.code_points import SPACE
from modelyard.data.filters.words import Characters, Positions

Shares = npt.NDArray[np.float64]
Chosen = npt.NDArray[np.bool_]


class Spans(NamedTuple):
    """Lines or paragraphs without surrounding space, empty ones left out."""

    starts: Positions
    ends: Positions
    documents: Positions
    size: int
    """Documents of the block."""

    def share(self, chosen: Chosen) -> Shares:
        """Share of chosen spans in each document."""
        return self._sums(chosen) / np.maximum(np.bincount(self.documents, minlength=self.size), 1)

    def character_share(self, chosen: Chosen) -> Shares:
        """Share of the characters of all spans that stand in chosen ones."""
        lengths = self.ends - self.starts
        return self._sums(lengths * chosen) / np.maximum(self._sums(lengths), 1)

    def repeated(self, block: Characters) -> Chosen:
        """Whether a span repeats an earlier one of its document, case folded."""
        return words.seen_before(words.spans(block, self.starts, self.ends), self.documents) == words.AGAIN

    def where(self, chosen: Chosen) -> Spans:
        """Only the chosen ones."""
        return Spans(self.starts[chosen], self.ends[chosen], self.documents[chosen], self.size)

    def _sums(self, values: npt.NDArray[np.generic]) -> Shares:
        return np.bincount(self.documents, values, self.size).astype(float)


class Layout(NamedTuple):
    """How a block's text is laid out."""

    lines: Spans
    paragraphs: Spans
    """Lines with no empty line between them."""
    longest: Positions
    """[documents] characters of the longest line."""


def layout(block: Characters) -> Layout:
    """The lines and paragraphs of a block."""
    if native.available():
        found = native.layout(block.codes, block.kinds, block.starts)
        size = block.starts.size - 1
        return Layout(Spans(*found.lines, size), Spans(*found.paragraphs, size), found.longest)
    stops = np.flatnonzero(block.codes == ord("\n"))
    begins = np.concatenate([[0], stops[:-1] + 1])
    owner = np.searchsorted(block.starts, begins, side="right") - 1
    ink = np.flatnonzero((block.kinds & SPACE) == 0)
    low, high = np.searchsorted(ink, begins), np.searchsorted(ink, stops)
    filled = np.flatnonzero(high > low)
    lines = Spans(ink[low[filled]], ink[high[filled] - 1] + 1, owner[filled], block.starts.size - 1)
    cut = np.flatnonzero((np.diff(filled) > 1) | (np.diff(lines.documents) > 0))
    first = np.concatenate([[0], cut + 1])[: filled.size]
    last = np.concatenate([cut, [filled.size - 1]])[: first.size]
    paragraphs = Spans(lines.starts[first], lines.ends[last], lines.documents[first], lines.size)
    longest = np.maximum.reduceat(stops - begins, np.searchsorted(begins, block.starts[:-1]))
    return Layout(lines, paragraphs, longest)
