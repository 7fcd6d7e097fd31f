"""Reading benchmark files: JSONL, CSV or JSON, plain or gzipped, every item with an id."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelyard.config import complaint
from modelyard.formats import json_file

Row = dict[str, Any]


class MissingDataError(ValueError):
    """A benchmark's files are not where they were looked for."""


def find(data: Path, *relative: str) -> Path:
    """The first of the files that exists, as it is or gzipped. Raises MissingDataError naming what was looked for."""
    for name in relative:
        for path in (data / name, data / f"{name}.gz"):
            if path.is_file():
                return path
    raise MissingDataError(f"missing data: none of {', '.join(relative)} (or .gz) in {data}")


def text_of(path: Path) -> str:
    """The file's text, unpacked where gzipped. Raises ValueError naming the file."""
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {complaint(error)}") from None


def jsonl(path: Path, *keys: str) -> list[Row]:
    """Every line as a dict. Raises ValueError naming the line that is not JSON or lacks a key."""
    rows: list[Row] = []
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if not line.strip():
            continue
        row = json_file.parse(line, f"{path}:{number}")
        if lacking := [key for key in keys if not isinstance(row, dict) or key not in row]:
            raise ValueError(f"{path}:{number}: no {lacking[0]!r}")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no items")
    return rows


def table(path: Path, *keys: str) -> list[Row]:
    """Every row of a CSV file with a header. Raises ValueError for a missing column."""
    try:
        rows: list[Row] = list(csv.DictReader(io.StringIO(text_of(path))))
    except csv.Error as error:
        raise ValueError(f"{path}: no CSV: {error}") from None
    if not rows or (lacking := [key for key in keys if key not in rows[0]]):
        raise ValueError(f"{path}: no {'rows' if not rows else 'column ' + repr(lacking[0])}")
    return rows


def taken(examples: Sequence[Row], shots: int, source: Path) -> Sequence[Row]:
    """The first ``shots`` examples: the same for every item. Raises ValueError when there are fewer."""
    if not 0 <= shots <= len(examples):
        raise ValueError(f"{shots} shots: {source} has {len(examples)} examples")
    return examples[:shots]


def refuse_shots(name: str, shots: int | None) -> None:
    """Raise ValueError where a benchmark without examples is asked to show some."""
    if shots:
        raise ValueError(f"{name} has no examples to show")
