"""Rows inside JSON that is damaged: a brace or a quote too many or too few must not take the rest of its array with it.

A row is an object that parses, is followed by what may follow a row, and looks like the rows before it; what lies between such objects is
set aside by whoever asks. Left out: mending the damaged row itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_BEGIN = re.compile(r"[\[,}\n]\s*(?=\{)")
_FOLLOWED = re.compile(r"\s*(?:[,\]{]|\Z)")
_NOTHING = re.compile(r"[\s,\[\]{}]*")
_DECODER = json.JSONDecoder()
_UTF8 = ("utf-8", "surrogateescape")


class Piece(NamedTuple):
    """A part of damaged JSON."""

    data: bytes
    row: object
    """The row that it is; None where it is none."""
    end: int
    """Where it ends, in bytes."""


def pieces(data: bytes, alike: Callable[[object], bool]) -> Iterator[Piece]:
    """The rows inside ``data`` and what lies between them but for brackets and commas, in order; ``alike`` says whether an object is a row."""
    text = data.decode(*_UTF8)
    done = end = 0

    def piece(begin: int, stop: int, row: object) -> Piece:
        nonlocal end
        own = text[begin:stop].encode(*_UTF8)
        end += len(own)
        return Piece(own, row, end)

    for match in _BEGIN.finditer(text):
        if match.end() < done:
            continue
        try:
            row, stop = _DECODER.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        if not (alike(row) and _FOLLOWED.match(text, stop)):
            continue
        between = piece(done, match.end(), None)
        if not _NOTHING.fullmatch(text, done, match.end()):
            yield between
        yield piece(match.end(), stop, row)
        done = stop
    if not _NOTHING.fullmatch(text, done):
        yield piece(done, len(text), None)


def end_of_rows(data: bytes, alike: Callable[[object], bool], longest: int) -> int:
    """Where the last row of at most ``longest`` bytes inside ``data`` ends, in bytes; 0 where there is none."""
    return max((piece.end for piece in pieces(data, alike) if piece.row is not None and len(piece.data) <= longest), default=0)
