"""JSON objects that people bring: one a line, or all in one array, each known by the line where it begins.

Published data comes both ways (``alpaca_data.json`` is an array), under any name. Text that UTF-8 cannot spell, half of a surrogate pair, is
refused with its key, since no record of it can be written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelyard.complaint import complaint
from modelyard.formats.json_file import Line, lines, text_of

_SURROGATE = re.compile("[\\ud800-\\udfff]")


def objects(path: Path) -> Iterator[Line]:
    """The objects of the file at ``path``, gzipped or not. Raises ValueError naming file, line and, where a text is at fault, key."""
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
        if not isinstance(fields, dict):
            raise ValueError(f"{where}: not a JSON object but {type(fields).__name__}")
        yield _writable(Line(where, fields))
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
