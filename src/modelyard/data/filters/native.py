"""The compiled counterpart of the NumPy code that counts in words.py, lines.py, gopher.py, quality.py and formats/abuse.py: ``counting.c``.

The library is built beside this module when the package is installed (``hatch_build.py``) and needs no Python
headers. Where it is not there, :func:`available` is false and NumPy counts; both give the same answers to the last
bit, so which of them ran is in no fingerprint. Arrays are NumPy's, contiguous; ``rows`` are the first word of each
document and the end, ``steps`` how many words of a document count as one, ``sizes`` the characters in all words before
each word. Left out: checking values, because only the modules above call it.
"""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]


def _loaded() -> ctypes.CDLL | None:
    """The library; None where it is not there, was built for another machine or from another source than lies here."""
    file, source = Path(__file__).with_name("_counting.so"), Path(__file__).with_name("counting.c")
    try:
        library = ctypes.CDLL(str(file)) if file.is_file() else None
    except OSError:
        return None
    if library is None:
        return None
    library.source.restype = ctypes.c_int64
    return library if library.source() == int(hashlib.sha256(source.read_bytes()).hexdigest()[:15], 16) else None


LIBRARY = _loaded()
"""None where NumPy counts."""


def available() -> bool:
    """Whether the library is there."""
    return LIBRARY is not None


def _call(name: str, *arguments: npt.NDArray[Any] | int) -> int:
    """Call a function; arrays go by address, other arguments as 64-bit integers."""
    function = getattr(LIBRARY, name)
    function.restype = ctypes.c_int64
    return int(function(*map(_passed, arguments)))


def _passed(argument: npt.NDArray[Any] | int) -> ctypes.c_void_p | ctypes.c_int64:
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    assert argument.flags.c_contiguous
    return ctypes.c_void_p(argument.ctypes.data)


def _table(entries: int) -> npt.NDArray[np.uint32]:
    """Slots of a hash table of so many entries."""
    return np.empty(1 << max(1, 2 * entries).bit_length(), np.uint32)


def characters(codes: Codes, kinds_of: npt.NDArray[np.uint8], folded: Codes) -> tuple[npt.NDArray[np.uint8], Hashes]:
    """(kinds, prefix sums of hashes) of code points."""
    kinds, prefix = np.empty(codes.size, np.uint8), np.empty(codes.size + 1, np.uint64)
    _call("characters", codes, codes.size, kinds_of, folded, kinds, prefix)
    return kinds, prefix


def word_codes(text: bytes) -> Hashes:
    """[words] CRC-32 of each word that the abuse filter counts, of lower-case text in UTF-8."""
    codes = np.empty(len(text) // 2 + 1, np.uint64)
    count = _call("word_codes", np.frombuffer(text, np.uint8), len(text), codes)
    return codes[:count]


def digit_runs(codes: Codes, classes: npt.NDArray[np.uint8], least: int) -> Positions:
    """[runs, 3] start, end and digits of each run of at least ``least`` digits and separators that begins and ends with a digit."""
    runs = np.empty((codes.size // least + 1, 3), np.int64)
    return runs[: _call("digit_runs", codes, codes.size, classes, least, runs)]


def lettered(codes: Codes) -> Positions:
    """Capitals, in order, from which one, two, four or six of them lead to two digits, or one by way of a dash."""
    places = np.empty(2 * codes.size + 1, np.int64)
    return places[: _call("lettered", codes, codes.size, places)]


def spans(prefix: Hashes, inverse: Hashes, starts: Positions, ends: Positions) -> Hashes:
    """Hashes of spans."""
    hashes = np.empty(starts.size, np.uint64)
    _call("spans", prefix, inverse, np.ascontiguousarray(starts), np.ascontiguousarray(ends), starts.size, hashes)
    return hashes


class Found(NamedTuple):
    """Words of a block."""

    starts: Positions
    ends: Positions
    hashes: Hashes
    documents: Positions
    rows: Positions
    alone: Positions
    """[2, documents] words that are one character of ideographic and of southeast Asian scripts."""


def words(
    codes: Codes,
    kinds: npt.NDArray[np.uint8],
    prefix: Hashes,
    inverse: Hashes,
    documents: Positions,
    *,
    apostrophes: bool,
    unspaced: bool,
) -> Found:
    """The words of a block; ``documents`` are the first character of each one and the end."""
    most, how_many = codes.size, documents.size - 1
    starts, ends, owner = (np.empty(most, np.int64) for _ in range(3))
    hashes, rows, alone = np.empty(most, np.uint64), np.empty(how_many + 1, np.int64), np.empty((2, how_many), np.int64)
    flags = int(apostrophes), int(unspaced)
    block = codes, kinds, prefix, inverse, codes.size, documents, how_many
    size = _call("words", *block, *flags, starts, ends, hashes, owner, rows, alone)
    return Found(starts[:size].copy(), ends[:size].copy(), hashes[:size].copy(), owner[:size].copy(), rows, alone)


def ngrams(hashes: Hashes, rows: Positions, steps: Positions, size: int) -> tuple[Hashes, Positions]:
    """(hashes, first word) of the n-grams inside documents."""
    assert size >= 1, "an n-gram has a word: of none there would be more than there is room for"
    found, starts = np.empty(hashes.size, np.uint64), np.empty(hashes.size, np.int64)
    count = _call("ngrams", hashes, rows, steps, rows.size - 1, size, found, starts)
    return found[:count], starts[:count]


def seen_before(hashes: Hashes, documents: Positions) -> npt.NDArray[np.int8]:
    """State of each hash in its document; ``documents`` in order."""
    state = np.empty(hashes.size, np.int8)
    _call("seen_before", hashes, documents, hashes.size, _table(hashes.size), state)
    return state


def covered(starts: Positions, widths: Positions, words_in: int) -> Flags:
    """[words] whether a word stands in one of the n-grams of so many words that begin, in order, at ``starts``."""
    inside = np.empty(words_in, np.bool_)
    _call("covered", starts, widths, starts.size, words_in, inside)
    return inside


def top_word(hashes: Hashes, rows: Positions) -> tuple[Positions, Positions]:
    """(how often the most frequent word of each document occurs, the first word that does)."""
    top, place = np.empty(rows.size - 1, np.int64), np.empty(rows.size - 1, np.int64)
    _call("top_word", hashes, rows, rows.size - 1, _table(hashes.size), np.empty(hashes.size, np.uint32), top, place)
    return top, place


def top_ngrams(hashes: Hashes, sizes: Positions, rows: Positions, steps: Positions) -> Positions:
    """[3, documents] characters in the most frequent 2-, 3- and 4-gram that occurs twice."""
    most = np.empty((3, rows.size - 1), np.int64)
    scratch = np.empty(hashes.size, np.uint64), np.empty(hashes.size, np.uint32), np.empty(hashes.size, np.uint32)
    flags = np.empty((2, hashes.size), np.uint8)
    _call("top_ngrams", hashes, sizes, rows, steps, rows.size - 1, _table(hashes.size), *scratch, flags, most)
    return most


def duplicate_ngrams(hashes: Hashes, sizes: Positions, rows: Positions, steps: Positions, how_many: int) -> Positions:
    """[how_many, documents] characters of words in 5-, 6-, ... grams that repeat an earlier one."""
    sums = np.empty((how_many, rows.size - 1), np.int64)
    scratch = np.empty(hashes.size, np.uint64), np.empty(hashes.size, np.int8), np.empty(hashes.size, np.uint8)
    _call("duplicate_ngrams", hashes, sizes, rows, steps, rows.size - 1, how_many, _table(hashes.size), *scratch, sums)
    return sums


def tallies(
    codes: Codes, kinds: npt.NDArray[np.uint8], documents: Positions, starts: Positions, ends: Positions, rows: Positions
) -> Positions:
    """[5, documents] visible characters, letters with marks, number signs, ellipses, words with a letter."""
    counts = np.empty((5, rows.size - 1), np.int64)
    _call("tallies", codes, kinds, documents, rows.size - 1, starts, ends, rows, counts)
    return counts


def present(hashes: Hashes, rows: Positions, wanted: Hashes) -> Positions:
    """[documents] how many of the at most 64 wanted hashes are among the words of each."""
    assert wanted.size <= 64
    counts = np.empty(rows.size - 1, np.int64)
    _call("present", hashes, rows, rows.size - 1, wanted, wanted.size, counts)
    return counts


class Lines(NamedTuple):
    """(start, end, document) of lines and of paragraphs, and the longest line of each document."""

    lines: tuple[Positions, Positions, Positions]
    paragraphs: tuple[Positions, Positions, Positions]
    longest: Positions


def layout(codes: Codes, kinds: npt.NDArray[np.uint8], documents: Positions) -> Lines:
    """The lines and paragraphs of a block."""
    room = int(np.count_nonzero(codes == ord("\n")))
    spans = [np.empty(room, np.int64) for _ in range(6)]
    longest, counts = np.empty(documents.size - 1, np.int64), np.empty(2, np.int64)
    _call("layout", codes, kinds, documents, documents.size - 1, *spans, longest, counts)
    lines, paragraphs = counts.tolist()
    a, b, c, d, e, f = spans
    return Lines((a[:lines], b[:lines], c[:lines]), (d[:paragraphs], e[:paragraphs], f[:paragraphs]), longest)
