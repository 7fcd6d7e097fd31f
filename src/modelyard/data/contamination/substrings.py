"""Finds many fixed strings in much text at once, by looking at few places of the text; every hit is verified exactly.

A string of at least m bytes that occurs in a text covers a window of q bytes at one of the text's positions 0, s, 2s, ... when s = m - q + 1.
So only every s-th window of the text is looked up, in a table of the first s windows of every string (the sampling of Wu and Manber 1994's
shifts, turned from the text to the strings). For the GPT-4 procedure m = 50, q = 16 and s = 35: a bitmap drops nearly all of the N/35 look-ups,
the sorted table most others, and what is left is compared byte by byte, in NumPy all the way: a text full of hits costs little more than one
without. Shorter strings go in groups of their own with a smaller s. Linear in the text. UTF-8 bytes rather than characters: in UTF-8 a string
occurs in a text exactly where its bytes occur.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_GROUPS = ((50, 16), (32, 16), (16, 8), (8, 8), *((length, length) for length in range(7, 0, -1)))
"""(least length, window) of each group of strings, longest first."""
_MULTIPLIERS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_POSITIONS = 1 << 20
_SEPARATOR = b"\n"
_PADDING = b"\n" * 16

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]


class Hits(NamedTuple):
    """Strings found in documents, each pair once, ordered by string and document."""

    patterns: Positions
    """Index of the string."""
    documents: Positions
    """Index of the document."""


class Finder:
    """Searches documents for strings."""

    def __init__(self, patterns: list[bytes]) -> None:
        """Args: ``patterns``: different strings, UTF-8, not empty, without newline."""
        assert all(pattern and _SEPARATOR not in pattern for pattern in patterns), "strings are not empty and hold no newline"
        assert len(set(patterns)) == len(patterns), "strings differ"
        grouped: dict[tuple[int, int], list[int]] = {}
        for index, pattern in enumerate(patterns):
            grouped.setdefault(next(group for group in _GROUPS if len(pattern) >= group[0]), []).append(index)
        self._groups = [_Group(least, window, found, [patterns[n] for n in found]) for (least, window), found in grouped.items()]

    def search(self, documents: list[bytes]) -> Hits:
        """Every string in every document that holds it. Documents must hold no newline."""
        data = _SEPARATOR.join([*documents, _PADDING])
        words = np.ndarray((len(data) - 7,), "<u8", buffer=data, strides=(1,))
        starts = np.cumsum([0, *(len(document) + 1 for document in documents[:-1])])
        found = [np.zeros((0, 2), np.int64), *(group.hits(words, starts) for group in self._groups)]
        pairs = np.unique(np.concatenate(found), axis=0)
        return Hits(pairs[:, 0], pairs[:, 1])


class _Group:
    """Strings of similar length: their windows in one sorted table."""

    def __init__(self, least: int, window: int, indices: list[int], patterns: list[bytes]) -> None:
        self.window = window
        self.step = least - window + 1
        self.indices = np.array(indices)
        data = _PADDING.join(patterns) + _PADDING
        lengths = np.array([len(pattern) for pattern in patterns])
        starts = np.concatenate([[0], np.cumsum(lengths[:-1] + len(_PADDING))])
        words = np.ndarray((len(data) - 7,), "<u8", buffer=data, strides=(1,))
        positions = (starts[:, None] + np.arange(self.step)[None, :]).reshape(-1)
        keys = _keys(words[positions], words[positions + 8], window)
        order = np.argsort(keys, kind="stable")
        self.keys = keys[order]
        self.owner = order // self.step
        self.offset = order % self.step
        self.words, self.starts, self.lengths = words, starts, lengths
        self.shift = np.uint64(64 - max(16, min(26, int(keys.size).bit_length() + 4)))
        self.bitmap = np.zeros(1 << (64 - int(self.shift)), bool)
        self.bitmap[keys >> self.shift] = True

    def hits(self, words: Hashes, starts: Positions) -> npt.NDArray[np.int64]:
        """(string, document) pairs, [n, 2], some more than once."""
        end = words.size + 7 - len(_PADDING)
        found = []
        for begin in range(0, end, self.step * _POSITIONS):
            stop = min(end, begin + self.step * _POSITIONS)
            keys = _keys(words[begin : stop : self.step], words[begin + 8 : stop + 8 : self.step], self.window)
            likely = np.flatnonzero(self.bitmap[keys >> self.shift])
            owner, place = self._equal(words, *self._candidates(begin + likely * self.step, keys[likely], end))
            document = np.searchsorted(starts, place, side="right") - 1
            found.append(np.stack([self.indices[owner], document], axis=1))
        return np.concatenate([np.zeros((0, 2), np.int64), *found])

    def _candidates(self, positions: Positions, keys: Hashes, end: int) -> tuple[Positions, Positions]:
        """(string, place) pairs whose window agrees."""
        low, high = np.searchsorted(self.keys, keys, "left"), np.searchsorted(self.keys, keys, "right")
        counts = high - low
        entry = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        owner = self.owner[entry]
        place = np.repeat(positions, counts) - self.offset[entry]
        fits = (place >= 0) & (place + self.lengths[owner] <= end)
        return owner[fits], place[fits]

    def _equal(self, words: Hashes, owner: Positions, place: Positions) -> tuple[Positions, Positions]:
        """Those of the pairs whose every byte is equal, eight bytes at a time; the last eight overlap the ones before."""
        size = min(8, int(self.lengths.min()))
        for offset in range(0, int(self.lengths.max()), 8):
            inside = np.minimum(offset, self.lengths[owner] - size)
            same = _masked(words[place + inside], size) == _masked(self.words[self.starts[owner] + inside], size)
            owner, place = owner[same], place[same]
        return owner, place


def _keys(first: Hashes, second: Hashes, window: int) -> Hashes:
    """Hash of windows by their first eight and next eight bytes."""
    if window == 16:
        return first * _MULTIPLIERS[0] + second[: first.size] * _MULTIPLIERS[1]
    return _masked(first, window) * _MULTIPLIERS[0]


def _masked(values: Hashes, size: int) -> Hashes:
    return values & np.uint64((1 << (8 * size)) - 1)
