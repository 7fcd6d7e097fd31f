"""Finds many fixed strings in much text at once, by looking at few places of the text; every hit is verified exactly.

A string of at least m bytes that occurs in a text covers a window of q bytes at one of the text's positions 0, s, 2s, ... when s = m - q + 1.
So only every s-th window of the text is looked up, in a table of the first s windows of every string (the sampling of Wu and Manber 1994's
shifts, turned from the text to the strings). For the GPT-4 procedure m = 50, q = 16 and s = 35: a bitmap drops nearly all of the N/35 look-ups,
the sorted table most others, and what is left is compared byte by byte. Shorter strings go in groups of their own with a smaller s. Linear in
the text. UTF-8 bytes rather than characters: in UTF-8 a string occurs in a text exactly where its bytes occur.
"""

from __future__ import annotations

from collections.abc import Iterator
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


class Hit(NamedTuple):
    """A string found in a document."""

    pattern: int
    """Index of the string."""
    document: int
    """Index of the document."""


class Finder:
    """Searches documents for strings."""

    def __init__(self, patterns: list[bytes]) -> None:
        """Args: ``patterns``: UTF-8 without newline; empty ones are never found, equal ones share hits."""
        same: dict[bytes, list[int]] = {}
        for index, pattern in enumerate(patterns):
            assert _SEPARATOR not in pattern, "strings hold no newline"
            if pattern:
                same.setdefault(pattern, []).append(index)
        self._same = same
        grouped: dict[tuple[int, int], list[bytes]] = {}
        for pattern in same:
            grouped.setdefault(next(group for group in _GROUPS if len(pattern) >= group[0]), []).append(pattern)
        self._groups = [_Group(least, window, found) for (least, window), found in grouped.items()]

    def occurrences(self, documents: list[bytes]) -> Iterator[Hit]:
        """A hit for every string and document that holds it (some more than once). Documents must hold no newline."""
        data = _SEPARATOR.join([*documents, _PADDING])
        words = np.ndarray((len(data) - 7,), "<u8", buffer=data, strides=(1,))
        starts = np.cumsum([0, *(len(document) + 1 for document in documents[:-1])])
        for group in self._groups:
            for pattern, document in group.occurrences(data, words, starts):
                for index in self._same[pattern]:
                    yield Hit(index, document)


class _Group:
    """Strings of similar length: their windows in one sorted table."""

    def __init__(self, least: int, window: int, patterns: list[bytes]) -> None:
        self.window = window
        self.step = least - window + 1
        self.patterns = patterns
        data = _PADDING.join(patterns) + _PADDING
        lengths = np.array([len(pattern) for pattern in patterns])
        starts = np.concatenate([[0], np.cumsum(lengths[:-1] + len(_PADDING))])
        words = np.ndarray((len(data) - 7,), "<u8", buffer=data, strides=(1,))
        positions = (starts[:, None] + np.arange(self.step)[None, :]).reshape(-1)
        keys = _keys(words, positions, window)
        order = np.argsort(keys, kind="stable")
        self.keys = keys[order]
        self.owner = order // self.step
        self.offset = order % self.step
        # the first and last bytes of each string decide nearly every comparison without leaving NumPy
        self.lengths = lengths
        self.compared = min(least, 8)
        self.first = _masked(words[starts], self.compared)
        self.last = _masked(words[starts + lengths - self.compared], self.compared)
        self.shift = np.uint64(64 - max(16, min(26, int(keys.size).bit_length() + 4)))
        self.bitmap = np.zeros(1 << (64 - int(self.shift)), bool)
        self.bitmap[keys >> self.shift] = True

    def occurrences(self, data: bytes, words: Hashes, starts: Positions) -> Iterator[tuple[bytes, int]]:
        """(string, document) of occurrences."""
        end = len(data) - len(_PADDING)
        for begin in range(0, end, self.step * _POSITIONS):
            positions = np.arange(begin, min(end, begin + self.step * _POSITIONS), self.step)
            keys = _keys(words, positions, self.window)
            likely = np.flatnonzero(self.bitmap[keys >> self.shift])
            owner, place = self._candidates(words, positions[likely], keys[likely], end)
            document = np.searchsorted(starts, place, side="right") - 1
            if self.window < 8:  # the comparison was exact, and a string of a few letters occurs everywhere: once a document is enough
                _, once = np.unique(owner * starts.size + document, return_index=True)
                owner, place, document = owner[once], place[once], document[once]
            for number, position, holder in zip(owner.tolist(), place.tolist(), document.tolist(), strict=True):
                if data.startswith(self.patterns[number], position):
                    yield self.patterns[number], holder

    def _candidates(self, words: Hashes, positions: Positions, keys: Hashes, end: int) -> tuple[Positions, Positions]:
        """(string, place) pairs whose window, first and last bytes agree."""
        low, high = np.searchsorted(self.keys, keys, "left"), np.searchsorted(self.keys, keys, "right")
        counts = high - low
        entry = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        owner = self.owner[entry]
        place = np.repeat(positions, counts) - self.offset[entry]
        fits = (place >= 0) & (place + self.lengths[owner] <= end)
        owner, place = owner[fits], place[fits]
        tail = place + self.lengths[owner] - self.compared
        equal = (_masked(words[place], self.compared) == self.first[owner]) & (_masked(words[tail], self.compared) == self.last[owner])
        return owner[equal], place[equal]


def _keys(words: Hashes, positions: Positions, window: int) -> Hashes:
    """Hash of the ``window`` bytes at each position."""
    if window == 16:
        return words[positions] * _MULTIPLIERS[0] + words[positions + 8] * _MULTIPLIERS[1]
    return _masked(words[positions], window) * _MULTIPLIERS[0]


def _masked(values: Hashes, size: int) -> Hashes:
    return values & np.uint64((1 << (8 * size)) - 1)
