"""Training text as it lies about: files and directories of any form that :mod:`modelyard.data.sources.record_files` reads, document by document.

Names of documents are ``file:line`` for JSON lines, ``file:row`` for Parquet, ``file:row, part 2`` for one that was found inside a damaged row,
``file:record`` in an archive, the path for any other file. A row without the text field is all its strings, so comparisons and chat messages are
checked too. Broken rows are counted and named; over a share they stop it.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import os
import shutil
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.data.corpus.document import DataError
from modelyard.data.sources.left_out import Parted, parted
from modelyard.data.sources.record import Record, Tally, TextField
from modelyard.data.sources.record_files import bare_name, form_of, read


class AnyCorpus:
    """Documents of some paths, in a fixed order."""

    def __init__(self, paths: list[Path], field: str, max_broken: float) -> None:
        """Args: ``paths``: files or directories, of which a file that several reach, by whatever path or link, is read once; ``field``: where a
        row's text stands; ``max_broken``: share of rows that may be unreadable.

        Raises:
            DataError: a path does not exist.
        """
        every = [_files(path) for path in paths]
        first: dict[tuple[int, int], tuple[Path, Path]] = {}
        for path, files in zip(paths, every, strict=True):
            for file in map(Path, files.data):
                first.setdefault(_identity(file), (path, file))
        self._files = list(first.values())
        self._roots = [path for path in paths if path.is_dir()]
        self.left_out = list(dict.fromkeys(file for files in every for file in files.left_out))
        """Files in the directories that are no data."""
        self._field = TextField(field, or_any=True)
        self._max_broken = max_broken
        self._begins: list[int] = []
        self._rows = array("Q")
        self._salvaged: dict[int, str] = {}
        self.broken: list[dict[str, str]] = []

    def __len__(self) -> int:
        """Documents read so far."""
        return len(self._rows)

    def texts(self) -> Iterator[str]:
        """Every document's text. Raises DataError when too many rows are unreadable."""
        self._begins, self._rows, self._salvaged, self.broken = [], array("Q"), {}, []
        tally = Tally("corpus", self._max_broken)
        for _, file in self._files:
            self._begins.append(len(self._rows))
            before = len(tally.broken)
            for record in self._records(file, tally):
                if "," in record.place:
                    self._salvaged[len(self._rows)] = record.place.partition(" ")[2]
                self._rows.append(_number(record.place))
                yield record.text
            self.broken += [{"document": f"{file}:{b.place}", "reason": b.reason, "detail": b.detail} for b in tally.broken[before:]]
        tally.check()

    def name(self, document: int) -> str:
        """Name of a document by its index."""
        file, row = self._files[bisect_right(self._begins, document) - 1][1], self._rows[document]
        return f"{file}:{self._salvaged.get(document, row)}" if row else str(file)

    def require_apart(self, outputs: Iterable[Path]) -> None:
        """Raise DataError, naming both, when an output is one of the corpus' files, by whatever path or link, or lies in one of its directories,
        where the next search would read it."""
        sources = {_identity(file): file for file in [*(file for _, file in self._files), *map(Path, self.left_out)]}
        for output in outputs:
            if output.exists() and (source := sources.get(_identity(output))):
                raise DataError(f"{output}: would overwrite {source} of the corpus")
            if within := next((root for root in self._roots if output.resolve().is_relative_to(root.resolve())), None):
                raise DataError(f"{output}: lies in {within}, which is read as the corpus; put it elsewhere")

    def targets(self, out: Path) -> list[Path]:
        """Where :meth:`write_without` puts each file. Raises DataError when two would be one file, or one a file of the corpus."""
        found: dict[Path, Path] = {}
        for root, file in self._files:
            target = _target(root, file, out)
            if target in found:
                raise DataError(f"{target}: both {found[target]} and {file} would be written there")
            found[target] = file
        self.require_apart(found)
        return list(found)

    def write_without(self, dropped: frozenset[int], out: Path) -> int:
        """Copy the corpus to ``out`` without some documents; returns how many remain. Unreadable rows are left out too.

        JSON lines and Parquet keep their form and every field; archives become JSON lines; other files are copied or left out whole.

        Raises:
            DataError: see :meth:`targets`; nothing has been written then.
        """
        numbers = itertools.count()
        return sum(
            _write(file, target, (one for one in self._records(file, Tally("corpus", 1.0)) if next(numbers) not in dropped))
            for (_, file), target in zip(self._files, self.targets(out), strict=True)
        )

    def _records(self, file: Path, tally: Tally) -> Iterator[Record]:
        tally.where = f"corpus {file}" if not tally.broken else tally.where
        yield from tally.take(read(file, form_of(file.name), self._field))


def _files(path: Path) -> Parted:
    """The files of a directory in the order of their names, or the one file."""
    if path.is_dir():
        root = path.absolute()  # which files are markers is seen by their place below it
        found = parted([str(root / file.relative_to(path)) for file in sorted(path.rglob("*")) if file.is_file()], str(root))
        return Parted(*([str(path / Path(file).relative_to(root)) for file in files] for files in found))
    if not path.is_file():
        raise DataError(f"corpus {path}: no such file")
    return Parted([str(path)], [])


def _number(place: str) -> int:
    """The line, row or record of a place, of ``row 3, part 2`` the 3; 0 for a whole file."""
    return int(place.partition(",")[0].rsplit(" ", 1)[-1]) if place else 0


def _identity(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_dev, found.st_ino


def _target(root: Path, file: Path, out: Path) -> Path:
    """A file's place below ``out``: under the name of the directory it was found in, as JSON lines where its form is not kept."""
    place = out / file.name if root == file else out / Path(os.path.abspath(root)).name / file.relative_to(root)
    return place if form_of(file.name) in ("jsonl", "parquet", "file") else place.with_name(f"{bare_name(file.name)}.jsonl")


def _write(source: Path, target: Path, records: Iterator[Record]) -> int:
    """Write what is left of a file, record by record; how many there are."""
    form = form_of(source.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        return _write_parquet(source, target, records)
    kept = 0
    if form == "file":
        target.unlink(missing_ok=True)  # of an earlier run
        if kept := sum(1 for _ in records):
            shutil.copyfile(source, target)
        return kept
    with _create(target) as file:
        for record in records:
            row = record.row if form == "jsonl" else {**(record.row if isinstance(record.row, dict) else {}), "text": record.text}
            file.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode("utf-8", "surrogatepass"))
            kept += 1
    return kept


def _write_parquet(source: Path, target: Path, records: Iterator[Record]) -> int:
    """The rows of these records, every column of them as it is; how many records there are."""
    numbers = array("Q", (_number(record.place) for record in records))
    kept = np.unique(np.frombuffer(numbers, np.uint64)) if numbers else np.zeros(0, np.uint64)
    with pq.ParquetFile(source) as file, pq.ParquetWriter(target, file.schema_arrow) as out:
        before = 0
        for batch in file.iter_batches(batch_size=1000):
            low, high = np.searchsorted(kept, [before + 1, before + batch.num_rows + 1])
            out.write_batch(batch.take(pa.array(kept[low:high] - before - 1, pa.int64())))
            before += batch.num_rows
    return len(numbers)


def _create(path: Path) -> Any:
    """A file to write, packed as its name says."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.GzipFile(path, "wb", mtime=0)
    if suffix == ".bz2":
        return bz2.BZ2File(path, "wb")
    if suffix == ".xz":
        return lzma.LZMAFile(path, "wb")
    return pa.CompressedOutputStream(str(path), "zstd") if suffix == ".zst" else path.open("wb")
