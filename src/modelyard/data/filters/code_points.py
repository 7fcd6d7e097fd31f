"""Texts as code points, and what each code point is: letter, digit, space, mark, of a script without spaces, upper case."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

LETTER, ALNUM, SPACE, MARK, IDEOGRAPHIC, SOUTHEAST, UPPER = 1, 2, 4, 8, 16, 32, 64

Codes = npt.NDArray[np.uint32]

_ASSIGNED = 0x40000
"""No letter, mark or space stands above the third plane."""
_RANGES = {
    IDEOGRAPHIC: (
        *((0x3005, 0x3008), (0x3021, 0x302A), (0x3041, 0x3130), (0x31A0, 0x31C0), (0x31F0, 0x3200), (0x3400, 0x4DC0), (0x4E00, 0xA000)),
        *((0xF900, 0xFB00), (0xFF66, 0xFFA0), (0x1AFF0, 0x1B170), (0x20000, _ASSIGNED)),
    ),
    SOUTHEAST: ((0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800), (0x19E0, 0x1A00), (0xA9E0, 0xAA00), (0xAA60, 0xAA80)),
}
"""Unicode's blocks of scripts without spaces: Bopomofo, kana, ideographs; Thai, Lao, Burmese, Khmer."""


def codes_of(text: str) -> Codes:
    """[characters] code points."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8).astype(np.uint32)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def kinds_of(codes: Codes) -> npt.NDArray[np.uint8]:
    """Kinds of each code point: LETTER | ALNUM | SPACE | MARK | IDEOGRAPHIC | SOUTHEAST | UPPER."""
    return kinds()[codes]


@cache
def kinds() -> npt.NDArray[np.uint8]:
    """[code points] LETTER | ALNUM | SPACE | MARK | IDEOGRAPHIC | SOUTHEAST | UPPER."""
    every = [chr(code) for code in range(_ASSIGNED)]
    table = np.zeros(0x110000, np.uint8)
    table[:_ASSIGNED] = [
        LETTER * c.isalpha() | ALNUM * c.isalnum() | SPACE * c.isspace() | MARK * _is_mark(c) | UPPER * c.isupper() for c in every
    ]
    for kind, ranges in _RANGES.items():
        for low, high in ranges:
            table[low:high] |= kind * ((table[low:high] & (ALNUM | MARK)) != 0).astype(np.uint8)
    return table


def _is_mark(char: str) -> bool:
    """Whether a character belongs to the letter before it; a selector of emoji styles does not."""
    return unicodedata.category(char) in ("Mn", "Mc") and not "\ufe00" <= char <= "\ufe0f"


@cache
def folded() -> Codes:
    """[code points] each without case, where that is one code point."""
    table = np.arange(0x110000, dtype=np.uint32)
    folded = (chr(code).casefold() for code in range(_ASSIGNED))
    table[:_ASSIGNED] = [ord(to) if len(to) == 1 else code for code, to in enumerate(folded)]
    return table
