"""The script of every letter, by Unicode's own names of characters: which of them a text is written in says
more of its language than a few words.

Kana are one script here, and so are ideographs, which Chinese, Japanese and Korean share. Left out: scripts
of signs and symbols.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_PLANES = 0x40000
"""No letter stands above the third plane."""
_LATIN_END = 0x250
_WIDTHS = ("HALFWIDTH", "FULLWIDTH", "MODIFIER")
_SAME = {"CJK": "HAN", "IDEOGRAPHIC": "HAN", "HIRAGANA": "KANA", "KATAKANA": "KANA", "KATAKANA-HIRAGANA": "KANA"}


class Table(NamedTuple):
    """Scripts of all code points."""

    names: tuple[str, ...]
    """Name of each script; the first is of what is no letter."""
    script: npt.NDArray[np.uint8]
    """[code points] index of a name; scripts beyond the first 255 share one."""


@cache
def table() -> Table:
    """The script of each code point that is a letter."""
    numbers = {"": 0, "LATIN": 1}
    script = np.zeros(0x110000, np.uint8)
    for code in range(_PLANES):
        if chr(code).isalpha():
            name = "LATIN" if code < _LATIN_END else _script(unicodedata.name(chr(code), ""))
            script[code] = numbers.setdefault(name, min(len(numbers), 255))
    return Table(tuple(numbers), script)


def _script(name: str) -> str:
    first, _, rest = name.partition(" ")
    if first in _WIDTHS:
        first = rest.partition(" ")[0]
    return _SAME.get(first, first)
