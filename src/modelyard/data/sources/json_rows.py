"""Rows of JSON: lines, an array, or objects spread over lines, told by the content; in bounded memory and linear time.

C4 and many others name JSON lines ``.json``, so a name decides nothing but this: a line that is a whole array is a row in
``.jsonl`` and an array of rows in ``.json``. A broken row spoils itself only, also where a brace or quote that is missing makes one
value of the rest of an array (:mod:`modelyard.data.sources.damaged_json`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from itertools import chain

from modelyard.data.corpus.document import one_line
from modelyard.data.sources import damaged_json
from modelyard.data.sources.compressed import UNREADABLE
from modelyard.data.sources.damaged_json import end_of_rows
from modelyard.data.sources.record import Broken, Record, TextField, invalid_utf8, sample

_HEAD = 1 << 20
"""Bytes in which the first line must end to be looked at."""
_BOM = b"\xef\xbb\xbf"
_OPEN = (b"{", b"[", b",", b":")
"""What a line ends with inside an object that is spread over lines."""
_STRUCTURE = re.compile(rb'["{}\[\],]')
_IN_STRING = re.compile(rb'["\\]')


def rows(pieces: Iterable[bytes], field: TextField, longest: int, array: bool) -> Iterator[Record | Broken]:
    """Rows in order.

    Args:
        pieces: the content.
        field: where a row's text stands.
        longest: bytes; a longer row is set aside and never held whole.
        array: a line that is a whole array holds rows, and is not one.
    """
    number, word = 0, "line"
    try:
        head, rest = _peek(iter(pieces))
        word = "row" if _is_spread(head, array) else "line"
        alike = _Alike(field)
        found = values(chain(head, rest), longest, alike) if word == "row" else lines(chain(head, rest), longest)
        for number, row in enumerate(found, 1):
            place = f"{word} {number}"
            if isinstance(row, int):
                yield Broken(place, f"read/{word}_too_long", f"{row} bytes", "")
            elif row.strip():
                made = _row(place, row.removeprefix(_BOM) if number == 1 else row, field)
                yield from _salvaged(made, row, field, alike) if word == "row" else [made]
    except UNREADABLE as error:
        yield Broken(f"{word} {number + 1}", "read/truncated_file", f"cut off or damaged: {one_line(error)}", "")


def lines(pieces: Iterable[bytes], longest: int) -> Iterator[bytes | int]:
    """Lines without their ends; for a line over ``longest`` bytes its length instead, never held whole.

    What stands before a damaged place is given before the error is raised, the cut line excepted.
    """
    held: list[bytes] = []
    size = 0
    for chunk in pieces:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            size += len(end)
            yield size if size > longest else b"".join([*held, end])
            held, size = [], 0
        size += len(rest)
        held = [] if size > longest else [*held, rest]
    if size:
        yield size if size > longest else b"".join(held)


def values(pieces: Iterable[bytes], longest: int, alike: Callable[[object], bool] = lambda row: False) -> Iterator[bytes | int]:
    """The bytes of each element of top-level arrays and of each other top-level value; for a longer one its length.

    Where ``alike`` finds rows inside a longer one, of which ``longest`` bytes are held at once, it is no value but damage: it is given up to
    the last of them, and the next begins there.
    """
    found = iter(pieces)
    while True:
        rest = yield from _values(found, longest, alike)
        if rest is None:
            return
        found = chain([rest], found)


def _values(pieces: Iterable[bytes], longest: int, alike: Callable[[object], bool]) -> Generator[bytes | int, None, bytes | None]:
    """Values up to a damaged one that is longer; what has been read behind its last row, None at the end."""
    held: list[bytes] = []
    size = depth = 0
    array = in_string = escaped = text = False  # text: more than blanks has been let go of what is held

    def value(end: bytes) -> Iterator[bytes | int]:
        whole, total = b"".join([*held, end]), size + len(end)
        if total <= longest:
            yield from [] if _is_blank([whole]) else [whole]
        elif end_of_rows(whole, alike, longest):
            yield from [total - len(whole)] if total > len(whole) else []
            yield whole
        else:
            yield total

    for chunk in filter(None, pieces):
        start, at = 0, int(escaped)
        escaped = False
        while match := (_IN_STRING if in_string else _STRUCTURE).search(chunk, at):
            at, sign = match.end(), match[0]
            if in_string:
                in_string = sign == b"\\"
                escaped = in_string and at == len(chunk)
                at += in_string
                continue
            ends = -1
            if sign == b'"':
                in_string = True
            elif sign == b"[" and depth == 0 and not array and not text and _is_blank([*held, chunk[start : at - 1]]):
                array, depth, held, size, start = True, 1, [], 0, at
            elif sign in b"{[":
                depth += 1
            elif sign in b"}]":
                depth = max(0, depth - 1)
                ends = at - array if depth == 0 else -1
                array = array and depth > 0
            elif sign == b"," and array and depth == 1:
                ends = at - 1
            if ends >= 0:
                yield from value(chunk[start:ends])
                held, size, start, text = [], 0, at, False
        size += len(chunk) - start
        held.append(chunk[start:])
        if size <= longest or sum(map(len, held)) <= longest:
            continue
        if end := end_of_rows(whole := b"".join(held), alike, longest):
            if before := size - len(whole):
                yield before
            yield whole[:end]
            return whole[end:]
        held, text = [], text or not _is_blank([whole])
    yield from value(b"")
    return None


def _is_blank(pieces: Iterable[bytes]) -> bool:
    return not b"".join(pieces).strip().removeprefix(_BOM)


class _Alike:
    """Whether an object is a row like the last one that had a text."""

    def __init__(self, field: TextField) -> None:
        self._field = field
        self.names: Collection[str] | None = None

    def __call__(self, row: object) -> bool:
        if not isinstance(row, dict) or (self.names is not None and row.keys() != self.names):
            return False
        return isinstance(self._field.record("", row), Record)


def _salvaged(made: Record | Broken, data: bytes, field: TextField, alike: _Alike) -> Iterator[Record | Broken]:
    """The row; where it is none, the rows inside it, and what is none of them as so many broken ones."""
    if isinstance(made, Record):
        alike.names = made.row.keys() if isinstance(made.row, dict) else None
        yield made
        return
    found = list(damaged_json.pieces(data, alike)) if made.reason in ("read/invalid_json", "read/invalid_utf8") else []
    if all(piece.row is None for piece in found):
        yield made
        return
    for number, piece in enumerate(found, 1):
        place = f"{made.place}, part {number}"
        yield _row(place, piece.data, field) if piece.row is not None else made._replace(place=place, sample=sample(piece.data))


def _peek(pieces: Iterator[bytes]) -> tuple[list[bytes], Iterator[bytes]]:
    """Pieces up to the end of the first line that is not blank, and the rest."""
    head: list[bytes] = []
    size = 0
    for piece in pieces:
        head.append(piece)
        size += len(piece)
        if size > _HEAD or b"\n" in b"".join(head).lstrip():
            break
    return head, pieces


def _is_spread(head: list[bytes], array: bool) -> bool:
    """Whether rows are not lines."""
    begin = b"".join(head).removeprefix(_BOM).lstrip()
    line, end, _ = begin.partition(b"\n")
    if begin.startswith(b"[") and (array or (end and not _is_json(line))):
        return True
    return begin.startswith(b"{") and bool(end) and line.rstrip().endswith(_OPEN) and not _is_json(line)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _row(place: str, data: bytes, field: TextField) -> Record | Broken:
    try:
        row = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        return invalid_utf8(place, data, error)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python converts
        return Broken(place, "read/invalid_json", f"not valid JSON: {one_line(error)}", sample(data))
    return field.record(place, row, sample(data))
