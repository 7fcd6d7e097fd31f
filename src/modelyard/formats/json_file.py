"""JSON from files that others may have written: whatever is wrong with one is a ValueError in one line that names it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from modelyard.config import complaint, first_error
from modelyard.whole_file import read_unpacked

T = TypeVar("T")


_SURROGATE = re.compile("[\ud800-\udfff]")


class Line(NamedTuple):
    """One JSON object of a file of them."""

    where: str
    """``file:line``."""
    fields: dict[str, Any]


def parse(text: str | bytes, where: str) -> Any:
    """The value that ``text`` spells; ``where`` begins the error's line. Raises ValueError.

    Python's parser has two ways to fail besides JSONDecodeError: numbers of more digits than it converts and nesting deeper than its stack.
    """
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 text (byte {error.start})") from None
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {complaint(error)}") from None
    except RecursionError:
        raise ValueError(f"{where}: not JSON: nested too deeply") from None


def text_of(path: Path) -> str:
    """The file's text, unpacked where it is gzipped, without a byte order mark. Raises ValueError naming the file."""
    try:
        return read_unpacked(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or complaint(error)}") from None


def lines(path: Path) -> Iterator[Line]:
    """The objects of a file of JSON lines, gzipped or not; empty lines are passed over. Raises ValueError for anything else."""
    for number, text in enumerate(text_of(path).split("\n"), 1):
        if text.strip():
            where = f"{path}:{number}"
            fields = parse(text, where)
            yield _line(where, fields)


def objects(path: Path) -> Iterator[Line]:
    """The objects of a file of JSON lines or of one JSON array, gzipped or not, each with the line where it begins. Raises
    ValueError, also for text that cannot be written again.
    """
    text = text_of(path)
    at = _past_blanks(text, 0)
    if text[at : at + 1] != "[":
        yield from map(_writable, lines(path))
        return
    decoder, line, counted = json.JSONDecoder(), 1, 0
    at = _past_blanks(text, at + 1)
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        where = f"{path}:{line}"
        try:
            fields, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON: {complaint(error)}") from None
        yield _writable(_line(where, fields))
        at = _past_blanks(text, end)
        if text[at : at + 1] == ",":
            at = _past_blanks(text, at + 1)
        elif text[at : at + 1] != "]":
            raise ValueError(f"{where}: not JSON: what begins here is followed neither by a comma nor by the array's end")
    if _past_blanks(text, at + 1) < len(text):
        raise ValueError(f"{path}: not JSON: text behind the array's end")


def _past_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _line(where: str, fields: Any) -> Line:
    """Raises ValueError for what is no object."""
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: not a JSON object but {type(fields).__name__}")
    return Line(where, fields)


def _writable(line: Line) -> Line:
    """The line. Raises ValueError naming the key whose text UTF-8 cannot spell."""
    if key := _broken(line.fields, ""):
        raise ValueError(f"{line.where}: {key}: half of a surrogate pair")
    return line


def _broken(value: Any, key: str) -> str:
    """The key of a text that holds half of a surrogate pair, which JSON can spell and UTF-8 cannot; "" where there is none."""
    if isinstance(value, str):
        return key if _SURROGATE.search(value) else ""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next((found for name, part in parts if (found := _broken(part, f"{key}.{name}".lstrip(".")))), "")


def load(path: Path) -> Any:
    """The value in the file at ``path``. Raises ValueError."""
    return parse(text_of(path), str(path))


def table(path: Path, *keys: str) -> dict[str, Any]:
    """The object in the file at ``path``, which has ``keys``. Raises ValueError."""
    value = load(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: not a JSON object")
    if lacking := [key for key in keys if key not in value]:
        raise ValueError(f"{path}: no {lacking[0]!r}")
    return value


def read(path: Path, shape: TypeAdapter[T]) -> T:
    """What the file at ``path`` holds, of this shape. Raises ValueError naming the file, and the key that is missing or wrong."""
    try:
        return shape.validate_python(load(path))
    except ValidationError as error:
        raise ValueError(f"{path}: {first_error(error)}") from None
