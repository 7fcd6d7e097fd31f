"""Words and word n-grams of many documents at once, as 64-bit hashes in NumPy arrays: what quality rules,
duplicates and overlaps count.

A word is a maximal run of letters, digits and the marks that belong to them (vowel signs of Indic scripts);
an apostrophe between two of them belongs to the word when asked for. Hashes are polynomials over case-folded
code points modulo 2^64, cut out of one prefix sum (Karp and Rabin 1987), so that no word ever becomes a
Python object; equal words have equal hashes and two different ones collide with a chance of about 2^-64 a
pair. Scripts without spaces give one word a character when asked for: two of kana and ideographs, or four of
Thai, Lao, Khmer and Burmese, then count as one word, and an n-gram of a document written in them has so many
times more characters. Left out: segmentation by a dictionary, and case pairs that change a text's length
(``ß``). Where it is built the compiled library counts (:mod:`modelyard.data.filters.native`), with the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.data.filters import native
from modelyard.data.filters.code_points import ALNUM, IDEOGRAPHIC, MARK, SOUTHEAST, Codes, codes_of, folded, kinds, kinds_of

_BASE = 0x9E3779B97F4A7C15 | 1
_MIX = np.uint64(0xD6E8FEB86659FD93)
_STEP = np.uint64(0xA0761D6478BD642F | 1)
_BLOCK = 1 << 17
UNSPACED = {IDEOGRAPHIC: 2, SOUTHEAST: 4}
"""Kind of a character that is a word of its own -> how many of them count as one word."""
SINGLE, FIRST, AGAIN = 0, 1, 2

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]


class Characters(NamedTuple):
    """A block of documents as code points, joined by newlines."""

    codes: Codes
    """[characters], as written."""
    kinds: npt.NDArray[np.uint8]
    """[characters] LETTER | ALNUM | SPACE | MARK | IDEOGRAPHIC | SOUTHEAST | UPPER."""
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
    documents: Positions
    """[words] the document of each word."""
    counts: npt.NDArray[np.float64]
    """[documents] words, a character of a script without spaces counted as part of one."""
    steps: Positions
    """[documents] 1, or how many characters stand for a word where most words are such characters."""

    def widths(self, starts: Positions, size: int) -> Positions:
        """How many of these words the n-grams have that :func:`ngrams` found at ``starts``."""
        return size * self.steps[self.documents[starts]] if self.steps.max(initial=1) > 1 else np.full(starts.size, size)


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
    codes = codes_of(joined)
    starts = np.concatenate([[0], np.cumsum([len(text) + 1 for text in texts])]).astype(np.int64)
    if native.available():
        found, sums = native.characters(codes, kinds(), folded())
        return Characters(codes, found, starts, sums)
    powers, _ = _powers(1 << (codes.size + 1).bit_length())
    values = folded()[codes].astype(np.uint64)
    values *= _MIX
    values += np.uint64(1)
    values *= powers[: codes.size]
    prefix = np.zeros(codes.size + 1, np.uint64)
    np.cumsum(values, out=prefix[1:])
    return Characters(codes, kinds_of(codes), starts, prefix)


def spans(block: Characters, starts: Positions, ends: Positions) -> Hashes:
    """Hash of the characters of each span, case folded."""
    _, inverse = _powers(1 << (block.codes.size + 1).bit_length())
    if native.available():
        return native.spans(block.prefix, inverse, starts, ends)
    return (block.prefix[ends] - block.prefix[starts]) * inverse[starts]


def words(block: Characters, apostrophes: bool = False, unspaced: bool = False) -> Words:
    """The words of a block.

    Args:
        block: the characters.
        apostrophes: ``don't`` is one word.
        unspaced: a character of a script without spaces is a word of its own.
    """
    if native.available():
        _, inverse = _powers(1 << (block.codes.size + 1).bit_length())
        whole = native.words(block.codes, block.kinds, block.prefix, inverse, block.starts, apostrophes=apostrophes, unspaced=unspaced)
        counts, steps = _counted(np.diff(whole.rows), whole.alone)
        return Words(whole.hashes, whole.starts, whole.ends, whole.rows, whole.documents, counts, steps)
    inside = (block.kinds & (ALNUM | MARK)) != 0
    _join(block, inside, apostrophes)
    alone = (block.kinds & (IDEOGRAPHIC | SOUTHEAST)) != 0 if unspaced else np.zeros(0, bool)
    if alone.any():
        cut = ~inside | alone
        before, after = np.concatenate([[True], cut[:-1]]), np.concatenate([cut[1:], [True]])
        starts, ends = np.flatnonzero(inside & (alone | before)), np.flatnonzero(inside & (alone | after)) + 1
    else:
        edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
        edges = np.concatenate([[0], edges]) if inside[0] else edges
        starts, ends = edges[0::2], edges[1::2]
    rows = np.searchsorted(starts, block.starts)
    counts, steps = _counted(np.diff(rows), _alone(block.kinds[starts] if alone.any() else np.zeros(0, np.uint8), rows))
    documents = np.repeat(np.arange(rows.size - 1), np.diff(rows))
    return Words(spans(block, starts, ends), starts, ends, rows, documents, counts, steps)


def _join(block: Characters, inside: npt.NDArray[np.bool_], apostrophes: bool) -> None:
    """Mark as inside what belongs to a word only between two of its characters: apostrophes, invisible joiners."""
    marks = [block.codes == ord("'")] if apostrophes else []
    if block.codes.max() > 0x7F:
        marks += [(block.codes == 0x200C) | (block.codes == 0x200D)]
        marks += [block.codes == 0x2019] if apostrophes else []
    for mark in marks:
        places = np.flatnonzero(mark[1:-1]) + 1
        inside[places[inside[places - 1] & inside[places + 1]]] = True


def _alone(kinds: npt.NDArray[np.uint8], rows: Positions) -> Positions:
    """[2, documents] words that are one character; ``kinds`` of the words' first characters, empty where none is."""
    if not kinds.size:
        return np.zeros((2, rows.size - 1), np.int64)
    places = (np.flatnonzero((kinds & kind) != 0) for kind in UNSPACED)
    return np.stack([np.diff(np.searchsorted(place, rows).astype(np.int64)) for place in places])


def _counted(units: Positions, alone: Positions) -> tuple[npt.NDArray[np.float64], Positions]:
    """(counts, steps) of documents with so many words, of which some are one character."""
    counts, steps = units.astype(float), np.ones(units.size, np.int64)
    for size, characters_alone in zip(UNSPACED.values(), alone, strict=True):
        counts -= characters_alone * (1 - 1 / size)
        steps[2 * characters_alone > units] = size
    return counts, steps


def ngrams(found: Words, size: int) -> tuple[Hashes, Positions]:
    """(hashes of the n-grams inside documents, index of each one's first word), in the order of the text."""
    if native.available():
        return native.ngrams(found.hashes, found.rows, found.steps, size)
    steps = np.unique(found.steps).tolist() or [1]
    if len(steps) == 1:
        return _ngrams(found, size * steps[0])
    parts = []
    for step in steps:
        hashes, starts = _ngrams(found, size * step)
        mine = found.steps[found.documents[starts]] == step
        parts.append((hashes[mine], starts[mine]))
    hashes, starts = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(starts)
    return hashes[order], starts[order]


def _ngrams(found: Words, size: int) -> tuple[Hashes, Positions]:
    count = found.hashes.size - size + 1
    if count <= 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    total = found.hashes[:count].copy()
    factor = np.uint64(1)
    with np.errstate(over="ignore"):
        for shift in range(1, size):
            factor = factor * _STEP
            total += found.hashes[shift : shift + count] * factor
    whole = np.flatnonzero(found.documents[:count] == found.documents[size - 1 :])
    return total[whole] * _MIX, whole


def keyed(hashes: Hashes, documents: Positions) -> Hashes:
    """Hashes that differ between documents."""
    return hashes ^ (documents.astype(np.uint64) * np.uint64(_BASE))


def covered(found: Words, starts: Positions, size: int) -> npt.NDArray[np.bool_]:
    """[words] whether a word stands in one of the n-grams of ``size`` words that begin at ``starts``."""
    if native.available():
        return native.covered(starts, found.widths(starts, size), found.hashes.size)
    depth = np.bincount(starts, minlength=found.hashes.size + 1)
    depth -= np.bincount(starts + found.widths(starts, size), minlength=depth.size)
    return np.cumsum(depth)[:-1] > 0


def seen_before(hashes: Hashes, documents: Positions) -> npt.NDArray[np.int8]:
    """For each hash, given in the order of the text: SINGLE in its document, the FIRST of several, or there AGAIN."""
    if native.available():
        return native.seen_before(hashes, documents)
    key = keyed(hashes, documents)
    places = likely_repeated(key)
    order = places[np.argsort(key[places], kind="stable")]
    in_order = key[order]
    same = in_order[1:] == in_order[:-1]
    state = np.zeros(key.size, np.int8)
    state[order[:-1][same]] = FIRST
    state[order[1:][same]] = AGAIN
    return state


def likely_repeated(key: Hashes) -> Positions:
    """Where, in order, all hashes stand that occur more than once, and few others: those that share a bucket.

    The rest need no sorting.
    """
    bits = max(key.size, 1).bit_length() + 2
    bucket = (key >> np.uint64(64 - bits)).astype(np.int64)
    return np.flatnonzero(np.bincount(bucket, minlength=1)[bucket] > 1)


@cache
def _powers(size: int) -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse modulo 2^64, [size] each."""

    def powers(base: int) -> Hashes:
        factors = np.full(size, base, np.uint64)
        factors[0] = 1
        return np.multiply.accumulate(factors)

    return powers(_BASE), powers(pow(_BASE, -1, 1 << 64))
