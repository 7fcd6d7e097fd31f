"""JSON from files that others may have written: whatever is wrong with one is a ValueError in one line that names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from modelyard.complaint import complaint, first_error
from modelyard.whole_file import read_unpacked

T = TypeVar("T")


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
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: not UTF-8 text (byte {error.start} of the file)") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or complaint(error)}") from None


def lines(path: Path) -> Iterator[Line]:
    """The objects of a file of JSON lines, gzipped or not; empty lines are passed over. Raises ValueError for anything else."""
    for number, text in enumerate(text_of(path).split("\n"), 1):
        if text.strip():
            where = f"{path}:{number}"
            fields = parse(text, where)
            if not isinstance(fields, dict):
                raise ValueError(f"{where}: not a JSON object but {type(fields).__name__}")
            yield Line(where, fields)


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
