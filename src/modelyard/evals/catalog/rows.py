"""Reading benchmark files: our own layout, or the files of the Hub as they are published, with the place of every row.

Our own layout is one JSON lines or CSV file a set, plain or gzipped. The Hub's is found below the set's folder by a
pattern (``hf download OWNER/SET --repo-type dataset --local-dir DATA/SET``): Parquet, CSV or JSON lines, all files of a split.
Left out: loading scripts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from modelyard.complaint import complaint
from modelyard.formats import json_file
from modelyard.formats.json_file import Line

Row = dict[str, Any]
T = TypeVar("T")
PUBLISHED = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz")


class MissingDataError(ValueError):
    """A benchmark's files are not where they were looked for."""


def find(data: Path, *relative: str) -> Path:
    """The first of the files that exists, as it is or gzipped. Raises MissingDataError naming what was looked for."""
    if path := own_file(data, *relative):
        return path
    raise MissingDataError(f"missing data: none of {', '.join(relative)} (or .gz) in {data}")


def own_file(data: Path, *relative: str) -> Path | None:
    """:func:`find`, or None."""
    names = [path for name in relative for path in (data / name, data / f"{name}.gz")]
    return next((path for path in names if path.is_file()), None)


def load(data: Path, own: str, *hub: str) -> list[Line]:
    """The rows of our own file, or of the Hub's files that the first fitting pattern finds (``arc/**/ARC-Easy/test*``).

    Raises:
        MissingDataError: there are neither; the message names both.
        ValueError: a file cannot be read or holds no rows.
    """
    files = [path] if (path := own_file(data, own)) else next(filter(None, (published(data, pattern) for pattern in hub)), [])
    if not files:
        looked = ", ".join([own, *hub])
        raise MissingDataError(f"missing data: none of {looked} (JSON lines or Parquet) in {data}")
    lines = [line for file in files for line in lines_of(file)]
    if not lines:
        raise ValueError(f"{files[0]}: no items")
    return lines


def published(data: Path, pattern: str) -> list[Path]:
    """Files of a split, in order."""
    return sorted(path for path in data.glob(pattern) if path.is_file() and path.name.endswith(PUBLISHED))


def lines_of(path: Path) -> list[Line]:
    """Every row of a Parquet, CSV or JSON lines file. Raises ValueError naming the file."""
    if path.name.removesuffix(".gz").endswith(".csv"):
        return [Line(f"{path}: row {number}", row) for number, row in enumerate(table(path), 1)]
    if path.suffix != ".parquet":
        return list(json_file.lines(path))
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: no Parquet: {complaint(error)}") from None
    return [Line(f"{path}: row {number}", row) for number, row in enumerate(rows, 1)]


def text(line: Line, *keys: str) -> str:
    """The first of the fields that is there. Raises ValueError where there is none, or it is no text."""
    key = next((key for key in keys if line.fields.get(key) is not None), None)
    if key is None:
        raise ValueError(f"{line.where}: no {' or '.join(repr(key) for key in keys)}")
    if not isinstance(line.fields[key], str):
        raise ValueError(f"{line.where}: {key}: not a text but {type(line.fields[key]).__name__}")
    return str(line.fields[key])


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


def taken(examples: Sequence[T], shots: int, source: Path | str) -> Sequence[T]:
    """The first ``shots`` examples: the same for every item. Raises ValueError when there are fewer."""
    if not 0 <= shots <= len(examples):
        raise ValueError(f"{shots} shots: {source} has {len(examples)} examples")
    return examples[:shots]


def refuse_shots(name: str, shots: int | None) -> None:
    """Raise ValueError where a benchmark without examples is asked to show some."""
    if shots:
        raise ValueError(f"{name} has no examples to show")
