"""Training text as it lies about: files and directories of any form that :mod:`modelyard.data.records` reads, document by document.

Names of documents are ``file:line`` for JSON lines, ``file:row`` for Parquet, ``file:record`` in an archive, the path for any other file. A row
without the text field is all its strings, so comparisons and chat messages are checked too. Broken rows are counted and named; over a share they
stop it.
"""

from __future__ import annotations

import gzip
import json
import shutil
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.data.document import DataError
from modelyard.data.records import Record, Tally, TextField, form_of, read


class AnyCorpus:
    """Documents of some paths, in a fixed order."""

    def __init__(self, paths: list[Path], field: str, max_broken: float) -> None:
        """Args: ``paths``: files or directories; ``field``: where a row's text stands; ``max_broken``: share of rows that may be unreadable.

        Raises:
            DataError: a path does not exist.
        """
        self._files = [found for path in paths for found in _files(path)]
        self._field = TextField(field, or_any=True)
        self._max_broken = max_broken
        self._begins: list[int] = []
        self._rows = array("Q")
        self.broken: list[dict[str, str]] = []

    def __len__(self) -> int:
        """Documents read so far."""
        return len(self._rows)

    def texts(self) -> Iterator[str]:
        """Every document's text. Raises DataError when too many rows are unreadable."""
        self._begins, self._rows, self.broken = [], array("Q"), []
        tally = Tally("corpus", self._max_broken)
        for _, file in self._files:
            self._begins.append(len(self._rows))
            for record in self._records(file, tally):
                self._rows.append(_number(record.place))
                yield record.text
        tally.check()

    def name(self, document: int) -> str:
        """Name of a document by its index."""
        file, row = self._files[bisect_right(self._begins, document) - 1][1], self._rows[document]
        return f"{file}:{row}" if row else str(file)

    def write_without(self, dropped: frozenset[int], out: Path) -> int:
        """Copy the corpus to ``out`` without some documents; returns how many remain. Unreadable rows are left out too.

        JSON lines and Parquet keep their form and every field; archives become JSON lines; other files are copied or left out whole.
        """
        first, kept = 0, 0
        for root, file in self._files:
            records = list(enumerate(self._records(file, Tally("corpus", 1.0)), first))
            first += len(records)
            left = [record for index, record in records if index not in dropped]
            kept += len(left)
            _write(file, out / root.name / file.relative_to(root) if root != file else out / file.name, left)
        return kept

    def _records(self, file: Path, tally: Tally) -> Iterator[Record]:
        before = len(tally.broken)
        tally.where = f"corpus {file}" if not tally.broken else tally.where
        yield from tally.take(read(file, form_of(file.name), self._field))
        self.broken += [{"document": f"{file}:{b.place}", "reason": b.reason, "detail": b.detail} for b in tally.broken[before:]]


def _files(path: Path) -> list[tuple[Path, Path]]:
    """(the path given, a file in it) in the order of names."""
    if path.is_dir():
        return [(path, file) for file in sorted(path.rglob("*")) if file.is_file()]
    if not path.is_file():
        raise DataError(f"corpus {path}: no such file")
    return [(path, path)]


def _number(place: str) -> int:
    """The line, row or record of a place, 0 for a whole file."""
    return int(place.rsplit(" ", 1)[-1]) if place else 0


def _write(source: Path, target: Path, records: list[Record]) -> None:
    form = form_of(source.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        schema = pq.read_schema(source)
        pq.write_table(pa.Table.from_pylist([record.row for record in records], schema=schema), target)
    elif form == "file":
        if records:
            shutil.copyfile(source, target)
    else:
        rows = [record.row if form == "jsonl" else {**record.row, "text": record.text} for record in records]
        name = target if form == "jsonl" else target.with_name(target.name.partition(".")[0] + ".jsonl")
        with _create(name) as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "surrogatepass"))


def _create(path: Path) -> Any:
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(path, "wb", mtime=0))
    return pa.CompressedOutputStream(str(path), "zstd") if path.suffix == ".zst" else path.open("wb")
