"""A second opinion on contamination: word n-grams as GPT-3 counted them (Brown et al. 2020, appendix C), lower case, without punctuation.

An item is contaminated when one of its 13-grams occurs in a document; an item of 8 to 12 words counts as one n-gram, a shorter one is not judged.
Unlike substrings of characters this sees items that were cut differently, and misses those that differ in every thirteenth word. n-grams are
compared by 64-bit hashes first and word by word where those agree. Left out: GPT-3's removal of 200 characters around a match.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.data.filters import words

LEAST = 8
_BITS = 24


class NgramMatch(NamedTuple):
    """An item that shares an n-gram with a document."""

    item: int
    """Index in the benchmark."""
    document: int
    """Index of the first document."""
    ngram: str
    """The shared words, lower case."""


class Ngrams:
    """The n-grams of all items; documents are fed in order."""

    def __init__(self, items: list[str], size: int) -> None:
        """Args: ``items``: texts; ``size``: words of an n-gram."""
        block = words.characters(items)
        found = words.words(block)
        lengths = np.diff(found.rows)
        self.unjudged: npt.NDArray[np.bool_] = lengths < LEAST
        self._tables = []
        for n in range(LEAST, size + 1):
            chosen = lengths >= size if n == size else lengths == n
            hashes, starts = words.ngrams(found, n)
            mine = chosen[found.documents[starts]] if starts.size else np.zeros(0, bool)
            if mine.any():
                self._tables.append(_Table(n, hashes[mine], starts[mine], found, block))
        self._matches: dict[int, NgramMatch] = {}
        self._open = np.ones(len(items), bool)

    def feed(self, documents: list[str], first: int) -> None:
        """Look at documents; ``first`` is the index of the first of them."""
        if not self._tables:
            return
        for begin, block in words.blocks(documents):
            found = words.words(block)
            for table in self._tables:
                for item, document, text in table.matches(found, block, self._open):
                    self._open[item] = False
                    self._matches[item] = NgramMatch(item, first + begin + document, text)

    def split(self, sizes: list[int]) -> list[tuple[list[NgramMatch], int]]:
        """(matches, items not judged) of each benchmark, whose items stand one after another."""
        result, begin = [], 0
        for size in sizes:
            mine = [self._matches[item]._replace(item=item - begin) for item in range(begin, begin + size) if item in self._matches]
            result.append((mine, int(self.unjudged[begin : begin + size].sum())))
            begin += size
        return result


class _Table:
    """n-grams of one length: sorted hashes with their items."""

    def __init__(self, n: int, hashes: words.Hashes, starts: words.Positions, found: words.Words, block: words.Characters) -> None:
        order = np.argsort(hashes, kind="stable")
        self.n, self.block, self.found = n, block, found
        self.hashes, self.starts = hashes[order], starts[order]
        self.items = found.documents[self.starts]
        self.bitmap = np.zeros(1 << _BITS, bool)
        self.bitmap[self.hashes >> np.uint64(64 - _BITS)] = True

    def matches(self, found: words.Words, block: words.Characters, wanted: npt.NDArray[np.bool_]) -> list[tuple[int, int, str]]:
        """(item, document, words) of the first shared n-gram of each wanted item."""
        hashes, starts = words.ngrams(found, self.n)
        likely = np.flatnonzero(self.bitmap[hashes >> np.uint64(64 - _BITS)])
        low, high = (np.searchsorted(self.hashes, hashes[likely], side) for side in ("left", "right"))
        counts = high - low
        entry = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        place = np.repeat(starts[likely], counts)
        still = wanted[self.items[entry]]
        entry, place = entry[still], place[still]
        _, once = np.unique(self.items[entry], return_index=True)
        result = []
        for index in np.sort(once).tolist():
            text = _phrase(block, found, int(place[index]), self.n)
            if text == _phrase(
                self.block, self.found, int(self.starts[entry[index]]), self.n
            ):  # equal hashes of unequal words: 2^-64 a pair
                document = int(np.searchsorted(found.rows, place[index], side="right")) - 1
                result.append((int(self.items[entry[index]]), document, text))
        return result


def _phrase(block: words.Characters, found: words.Words, first: int, count: int) -> str:
    pieces = (block.codes[found.starts[n] : found.ends[n]] for n in range(first, first + count))
    return " ".join(piece.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass").casefold() for piece in pieces)
