"""Words and word n-grams of many documents at once, as 64-bit hashes in NumPy arrays: what quality rules, duplicates and overlaps count.

A word is a maximal run of letters and digits; an apostrophe between two of them belongs to the word when asked for. Hashes are polynomials over
case-folded code points modulo 2^64, cut out of one prefix sum (Karp and Rabin 1987), so that no word ever becomes a Python object; equal words
have equal hashes and two different ones collide with a chance of about 2^-64 a pair. Left out: languages that write no spaces (their words are
whole sentences here) and case pairs that change a text's length (``ß``).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_BASE = 0x9E3779B97F4A7C15 | 1
_MIX = np.uint64(0xD6E8FEB86659FD93)
_STEP = np.uint64(0xA0761D6478BD642F | 1)
_BLOCK = 1 << 17
LETTER, ALNUM, SPACE = 1, 2, 4
SINGLE, FIRST, AGAIN = 0, 1, 2

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint32]


class Characters(NamedTuple):
    """A block of documents as code points, joined by newlines."""

    codes: Codes
    """[characters], as written."""
    kinds: npt.NDArray[np.uint8]
    """[characters] LETTER | ALNUM | SPACE."""
    starts: Positions
    """[documents + 1] first character of each document; each ends one before the next one's start."""
    prefix: Hashes
    """[characters + 1] prefix sums that :func:`spans` cuts hashes from."""


class Words(NamedTuple):
    """Words of a block, in order."""

    hashes: Hashes
    """[words]."""
    starts: Positions
    """[words] first character."""
    ends: Positions
    """[words] one after the last character."""
    rows: Positions
    """[documents + 1] first word of each document."""

    @property
    def documents(self) -> Positions:
        """[words] the document of each word."""
        return np.repeat(np.arange(self.rows.size - 1), np.diff(self.rows))


def blocks(texts: list[str]) -> Iterator[tuple[int, Characters]]:
    """(index of the first document, its block), each small enough for the processor's cache unless one document is larger."""
    begin, size = 0, 0
    for index, text in enumerate(texts):
        if size and size + len(text) > _BLOCK:
            yield begin, characters(texts[begin:index])
            begin, size = index, 0
        size += len(text) + 1
    if texts:
        yield begin, characters(texts[begin:])


def characters(texts: list[str]) -> Characters:
    """Documents as one block of code points."""
    joined = "\n".join(texts) + "\n"
    if joined.isascii():
        codes = np.frombuffer(joined.encode("ascii"), np.uint8).astype(np.uint32)
    else:
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    starts = np.concatenate([[0], np.cumsum([len(text) + 1 for text in texts])]).astype(np.int64)
    powers, _ = _powers(1 << (codes.size + 1).bit_length())
    values = _folded()[codes].astype(np.uint64)
    values *= _MIX
    values += np.uint64(1)
    values *= powers[: codes.size]
    prefix = np.zeros(codes.size + 1, np.uint64)
    np.cumsum(values, out=prefix[1:])
    return Characters(codes, kinds_of(codes), starts, prefix)


def spans(block: Characters, starts: Positions, ends: Positions) -> Hashes:
    """Hash of the characters of each span, case folded."""
    _, inverse = _powers(1 << (block.codes.size + 1).bit_length())
    return (block.prefix[ends] - block.prefix[starts]) * inverse[starts]


def words(block: Characters, apostrophes: bool = False) -> Words:
    """The words of a block; with ``apostrophes``, ``don't`` is one."""
    inside = (block.kinds & ALNUM) != 0
    if apostrophes:
        mark = (block.codes == ord("'")) | (block.codes == 0x2019)
        mark[1:-1] &= inside[:-2] & inside[2:]
        mark[[0, -1]] = False
        inside = inside | mark
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    if inside[0]:
        edges = np.concatenate([[0], edges])
    starts, ends = edges[0::2], edges[1::2]
    return Words(spans(block, starts, ends), starts, ends, np.searchsorted(starts, block.starts))


def ngrams(found: Words, size: int) -> tuple[Hashes, Positions]:
    """(hashes of the n-grams inside documents, index of each one's first word)."""
    count = found.hashes.size - size + 1
    if count <= 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    total = found.hashes[:count].copy()
    factor = np.uint64(1)
    with np.errstate(over="ignore"):
        for shift in range(1, size):
            factor = factor * _STEP
            total += found.hashes[shift : shift + count] * factor
    documents = found.documents
    whole = np.flatnonzero(documents[:count] == documents[size - 1 :])
    return total[whole] * _MIX, whole


def keyed(hashes: Hashes, documents: Positions) -> Hashes:
    """Hashes that differ between documents."""
    return hashes ^ (documents.astype(np.uint64) * np.uint64(_BASE))


def seen_before(hashes: Hashes, documents: Positions) -> Positions:
    """For each hash, given in the order of the text: SINGLE in its document, the FIRST of several, or there AGAIN."""
    key = keyed(hashes, documents)
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    before, after = np.concatenate([[False], same]), np.concatenate([same, [False]])
    state = np.zeros(key.size, np.int64)
    state[order] = np.where(before[: key.size], AGAIN, np.where(after[: key.size], FIRST, SINGLE))
    return state


def kinds_of(codes: Codes) -> npt.NDArray[np.uint8]:
    """LETTER | ALNUM | SPACE of each code point."""
    return _kinds()[codes]


@cache
def _powers(size: int) -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse modulo 2^64, [size] each."""

    def powers(base: int) -> Hashes:
        factors = np.full(size, base, np.uint64)
        factors[0] = 1
        return np.multiply.accumulate(factors)

    return powers(_BASE), powers(pow(_BASE, -1, 1 << 64))


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    every = [chr(code) for code in range(0x110000)]
    return np.array([LETTER * c.isalpha() | ALNUM * c.isalnum() | SPACE * c.isspace() for c in every], np.uint8)


@cache
def _folded() -> Codes:
    folded = (chr(code).casefold() for code in range(0x110000))
    return np.array([ord(to) if len(to) == 1 else code for code, to in enumerate(folded)], np.uint32)
