"""Finds many fixed strings in much text at once: every window of a length is hashed, few candidates remain, each is verified exactly.

For one pattern length L the polynomial hashes of all windows come from one prefix sum modulo 2^64 (Karp and Rabin 1987):
``P[i] = sum_{j<i} t[j] B^j`` and ``hash(i) = (P[i+L] - P[i]) B^{-i}``; B is odd, so its inverse exists. A bitmap over the hash's top bits drops
nearly all windows before the sorted look-up. Cost is linear in the text for each distinct length; the GPT-4 procedure has one length, 50, but
for items shorter than that. Characters, not bytes, so a window is 50 characters in any script.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_BASE = 0x9E3779B97F4A7C15 | 1
_MIX = np.uint64(0xD6E8FEB86659FD93)
_BLOCK = 1 << 18
_BITS = 22
_MASK = (1 << 64) - 1
_SEPARATOR = "\n"

Hashes = npt.NDArray[np.uint64]


class Hit(NamedTuple):
    """A pattern found in a document."""

    pattern: int
    """Index of the pattern."""
    document: int
    """Index of the first document that holds it."""


class Finder:
    """Searches documents for patterns; reports each pattern once, at its first document."""

    def __init__(self, patterns: list[str]) -> None:
        """Args: ``patterns``: strings without newline; empty ones are never found, equal ones share hits."""
        by_length: defaultdict[int, dict[str, list[int]]] = defaultdict(dict)
        for index, pattern in enumerate(patterns):
            assert _SEPARATOR not in pattern, "patterns hold letters and digits only"
            if pattern:
                by_length[len(pattern)].setdefault(pattern, []).append(index)
        self._lengths = {length: _Length(length, wanted) for length, wanted in sorted(by_length.items())}
        powers = np.full(_BLOCK + max(by_length, default=1) + 1, _BASE, np.uint64)
        powers[0] = 1
        self._powers = np.multiply.accumulate(powers)
        inverse = np.full(self._powers.size, pow(_BASE, -1, 1 << 64), np.uint64)
        inverse[0] = 1
        self._inverse = np.multiply.accumulate(inverse)

    def search(self, documents: Iterable[str]) -> list[Hit]:
        """First document of every pattern that occurs, ordered by pattern. Documents must hold no newline."""
        found: dict[int, int] = {}
        longest = max(self._lengths, default=1)
        for text, starts, first in _blocks(documents, longest):
            prefix = self._prefix(text)
            for length in self._lengths.values():
                for position, indices in length.find(text, prefix, self._inverse):
                    document = first + int(np.searchsorted(starts, position, side="right")) - 1
                    for index in indices:
                        found[index] = min(found.get(index, document), document)
        return [Hit(pattern, document) for pattern, document in sorted(found.items())]

    def _prefix(self, text: str) -> Hashes:
        values = _code_points(text) * _MIX + np.uint64(1)
        prefix = np.zeros(len(text) + 1, np.uint64)
        np.cumsum(values * self._powers[: values.size], out=prefix[1:])
        return prefix


class _Length:
    """Patterns of one length."""

    def __init__(self, length: int, wanted: dict[str, list[int]]) -> None:
        self.length = length
        self.wanted = wanted
        self.hashes = np.unique(np.array([_hash(pattern) for pattern in wanted], np.uint64))
        self.bitmap = np.zeros(1 << _BITS, bool)
        self.bitmap[self.hashes >> np.uint64(64 - _BITS)] = True

    def find(self, text: str, prefix: Hashes, inverse: Hashes) -> Iterator[tuple[int, list[int]]]:
        """(position, pattern indices) of every occurrence, verified."""
        windows = len(text) - self.length + 1
        if windows <= 0:
            return
        hashes = (prefix[self.length :] - prefix[:windows]) * inverse[:windows]
        candidates = np.flatnonzero(self.bitmap[hashes >> np.uint64(64 - _BITS)])
        place = np.searchsorted(self.hashes, hashes[candidates])
        place[place == self.hashes.size] = 0
        for position in candidates[self.hashes[place] == hashes[candidates]].tolist():
            indices = self.wanted.get(text[position : position + self.length])
            if indices is not None:
                yield position, indices


def _hash(pattern: str) -> int:
    total, power = 0, 1
    for char in pattern:
        total = (total + (ord(char) * int(_MIX) + 1) * power) & _MASK
        power = (power * _BASE) & _MASK
    return total


def _code_points(text: str) -> Hashes:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8).astype(np.uint64)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)


def _blocks(documents: Iterable[str], longest: int) -> Iterator[tuple[str, npt.NDArray[np.int64], int]]:
    """Blocks of about ``_BLOCK`` characters: (text, start of each document in it, index of its first document).

    Documents are joined by a newline, which no pattern holds. A longer document is cut with an overlap of ``longest - 1`` characters.
    """
    parts: list[str] = []
    size, first, number = 0, 0, 0
    for number, document in enumerate(documents):
        if parts and size + len(document) > _BLOCK:
            yield _join(parts, first)
            parts, size = [], 0
        if not parts:
            first = number
        if len(document) > _BLOCK:
            step = _BLOCK - longest + 1
            for start in range(0, len(document), step):
                yield document[start : start + _BLOCK], np.zeros(1, np.int64), number
            continue
        parts.append(document)
        size += len(document) + 1
    if parts:
        yield _join(parts, first)


def _join(parts: list[str], first: int) -> tuple[str, npt.NDArray[np.int64], int]:
    starts = np.cumsum([0, *(len(part) + 1 for part in parts[:-1])])
    return _SEPARATOR.join(parts), starts, first
