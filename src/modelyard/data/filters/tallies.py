"""Characters and words of a certain kind, counted per document of a block: what quality and Gopher's rules divide."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.data.filters import native
from modelyard.data.filters.code_points import LETTER, MARK, SPACE
from modelyard.data.filters.words import Characters, Positions, Words


class Tallies(NamedTuple):
    """Counts, [documents] each."""

    visible: Positions
    """Characters that are no white space."""
    letters: Positions
    """Letters and the marks that belong to them."""
    number_signs: Positions
    """``#``."""
    ellipses: Positions
    """The character, or three dots that no dot stands before."""
    lettered: Positions
    """Words with a letter or mark."""


def tallies(block: Characters, found: Words) -> Tallies:
    """The counts of every document of a block with its words."""
    if native.available():
        return Tallies(*native.tallies(block.codes, block.kinds, block.starts, found.starts, found.ends, found.rows))
    letters = np.concatenate([[0], np.cumsum((block.kinds & (LETTER | MARK)) != 0)])
    return Tallies(
        _per_document(block, (block.kinds & SPACE) == 0),
        sums(letters, block.starts),
        _per_document(block, block.codes == ord("#")),
        _per_document(block, _ellipses(block)),
        sums(np.concatenate([[0], np.cumsum(letters[found.ends] > letters[found.starts])]), found.rows),
    )


def sums(total: Positions, rows: Positions) -> Positions:
    """Sums over documents, of prefix sums ``total``; ``rows`` are where documents begin, and the end."""
    return total[rows[1:]] - total[rows[:-1]]


def _per_document(block: Characters, chosen: npt.NDArray[np.bool_]) -> Positions:
    return np.diff(np.searchsorted(np.flatnonzero(chosen), block.starts))


def _ellipses(block: Characters) -> npt.NDArray[np.bool_]:
    """Where an ellipsis ends."""
    dot = block.codes == ord(".")
    ends = block.codes == 0x2026
    ends[2:] |= dot[2:] & dot[1:-1] & dot[:-2] & ~np.concatenate([[False], dot[:-3]])
    return ends
