"""Reading benchmark files: JSONL, CSV or JSON, plain or gzipped, every item with an id."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def jsonl(path: Path, *keys: str) -> list[Row]:
    """Every line as a dict. Raises ValueError naming the line that is not JSON or lacks a key."""
    rows: list[Row] = []
    for where, row in json_file.lines(path):
        if lacking := [key for key in keys if key not in row]:
            raise ValueError(f"{where}: no {lacking[0]!r}")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no items")
    return rows


def table(path: Path, *keys: str) -> list[Row]:
    """Every row of a CSV file with a header. Raises ValueError for a missing column."""
    try:
        rows: list[Row] = list(csv.DictReader(io.StringIO(json_file.text_of(path))))
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
