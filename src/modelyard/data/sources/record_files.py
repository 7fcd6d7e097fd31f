"""Reads files of documents row by row, in bounded memory: JSON, CSV, Parquet, plain text, WARC and WET, packed or not.

What cannot be read is a value, not an exception: a :class:`~modelyard.data.sources.record.Broken` row with a reason, so
that one bad line of a million is counted, named and set aside. Rows in are rows given and rows set aside. Left out: archives
of files (zip, tar).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa

from modelyard.data.corpus.document import one_line
from modelyard.data.sources import csv_rows, json_rows, parquet_rows, web
from modelyard.data.sources.compressed import UNREADABLE, Stream, chunks, opened
from modelyard.data.sources.record import Broken, Record, TextField, invalid_utf8

Form = Literal["jsonl", "json", "csv", "tsv", "parquet", "text", "file", "warc", "wet"]
"""jsonl, json: rows as lines, an array or objects; csv, tsv: rows under a line of names; parquet: a document a row; text: paragraphs
between blank lines; file: the whole file; warc, wet: pages of a web archive."""
_SUFFIXES: tuple[tuple[str, Form], ...] = (
    (".jsonl", "jsonl"),
    (".jsonlines", "jsonl"),
    (".ndjson", "jsonl"),
    (".json", "json"),
    (".csv", "csv"),
    (".tsv", "tsv"),
    (".parquet", "parquet"),
    (".warc.wet", "wet"),
    (".wet", "wet"),
    (".warc", "warc"),
)
_PACKED = (".gz", ".zst", ".bz2", ".xz")


def form_of(name: str) -> Form:
    """The form that a file's name tells, in upper or lower case; ``file`` for any other."""
    return _split(name)[1]


def bare_name(name: str) -> str:
    """A file's name without the suffixes that tell its form and compression; other dots are part of the name."""
    return _split(name)[0]


def _split(name: str) -> tuple[str, Form]:
    bare = next((name[: -len(suffix)] for suffix in _PACKED if name.lower().endswith(suffix)), name)
    found = ((bare[: -len(suffix)], form) for suffix, form in _SUFFIXES if bare.lower().endswith(suffix))
    return next(found, (bare, "file"))


def read(path: Path, form: Form, field: TextField, longest: int = 1 << 30) -> Iterator[Record | Broken]:
    """Rows of a file, in order.

    Args:
        path: the file.
        form: what it holds.
        field: where a row's text stands.
        longest: bytes; a longer line, cell, document or page is set aside unread.
    """
    try:
        if form == "parquet":
            yield from parquet_rows.rows(path, field, longest)
            return
        with opened(path) as stream:
            yield from _rows(stream, form, field, longest)
    except (*UNREADABLE, pa.ArrowException) as error:
        yield Broken("", "read/damaged_file", f"not a readable {form} file: {one_line(error)}", "")


def _rows(stream: Stream, form: Form, field: TextField, longest: int) -> Iterator[Record | Broken]:
    if form in ("jsonl", "json"):
        return json_rows.rows(chunks(stream), field, longest, array=form == "json")
    if form in ("csv", "tsv"):
        return csv_rows.rows(chunks(stream), field, longest, "," if form == "csv" else "\t")
    if form in ("warc", "wet"):
        return web.pages(stream, longest)
    return _paragraphs(stream, longest) if form == "text" else _whole(stream, longest)


def _whole(stream: Stream, longest: int) -> Iterator[Record | Broken]:
    """The whole file as one document."""
    data = bytearray()
    for chunk in chunks(stream):
        data += chunk
        if len(data) > longest:
            yield Broken("", "read/file_too_long", f"over {longest} bytes", "")
            return
    try:
        yield Record("", data.decode("utf-8-sig"), {})
    except UnicodeDecodeError as error:
        yield invalid_utf8("", bytes(data), error)


def _paragraphs(stream: Stream, longest: int) -> Iterator[Record | Broken]:
    """Paragraphs with the number of their first line. One unreadable line spoils its paragraph only."""
    current: list[bytes] = []
    size, first = 0, 1
    for number, line in enumerate(json_rows.lines(chunks(stream), longest), 1):
        if isinstance(line, int) or line.strip():
            first = number if size == 0 else first
            size += 1 + (line if isinstance(line, int) else len(line))
            if size > longest:
                current.clear()
            elif isinstance(line, bytes):
                current.append(line)
        elif size:
            yield _paragraph(first, current, size)
            current, size = [], 0
    if size:
        yield _paragraph(first, current, size)


def _paragraph(first: int, content: list[bytes], size: int) -> Record | Broken:
    if not content:
        return Broken(f"line {first}", "read/paragraph_too_long", f"{size} bytes", "")
    for number, line in enumerate(content, first):
        try:
            line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return invalid_utf8(f"line {number}", line, error)
    return Record(f"line {first}", b"\n".join(content).decode("utf-8-sig").strip(), {})
