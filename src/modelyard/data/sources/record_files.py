"""Reads files of documents row by row, in bounded memory: JSON lines, Parquet, plain text, WARC and WET, gzip or zstd around any of them.

What cannot be read is a value, not an exception: a :class:`~modelyard.data.sources.record.Broken` row with a reason, so
that one bad line of a million is counted, named and set aside. Left out: other archives (zip, tar), CSV.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import pyarrow as pa

from modelyard.data.corpus.document import one_line
from modelyard.data.sources import web
from modelyard.data.sources.record import Broken, Record, TextField

Form = Literal["jsonl", "json", "parquet", "text", "file", "warc", "wet"]
"""jsonl, parquet: a document a row; json: an array of rows, one row, or lines; text: paragraphs between blank lines; file: the whole file;
warc: HTML responses; wet: extracted text."""
_CHUNK = 1 << 16
_SUFFIXES: tuple[tuple[str, Form], ...] = (
    (".jsonl", "jsonl"),
    (".ndjson", "jsonl"),
    (".json", "json"),
    (".parquet", "parquet"),
    (".warc.wet", "wet"),
    (".wet", "wet"),
    (".warc", "warc"),
)
_UNREADABLE = (OSError, EOFError, zlib.error, pa.ArrowException)


def form_of(name: str) -> Form:
    """The form that a file's name tells; ``file`` for any other."""
    bare = name.removesuffix(".gz").removesuffix(".zst")
    return next((form for suffix, form in _SUFFIXES if bare.endswith(suffix)), "file")


def bare_name(name: str) -> str:
    """A file's name without the suffixes that tell its form and compression; other dots are part of the name."""
    bare = name.removesuffix(".gz").removesuffix(".zst")
    return next((bare.removesuffix(suffix) for suffix, _ in _SUFFIXES if bare.endswith(suffix)), bare)


def read(path: Path, form: Form, field: TextField, longest: int = 1 << 30) -> Iterator[Record | Broken]:
    """Rows of a file, in order.

    Args:
        path: the file.
        form: what it holds.
        field: where a row's text stands.
        longest: bytes; a longer line, document or page is set aside unread.
    """
    try:
        if form == "parquet":
            yield from _parquet(path, field)
            return
        with _open(path) as stream:
            if form == "jsonl":
                yield from _jsonl(stream, field, longest)
            elif form == "json":
                yield from _json(stream, field, longest)
            elif form in ("warc", "wet"):
                yield from (
                    _decoded(p.place, p.data, p.encoding, p.row) if p.reason is None else Broken(p.place, p.reason, p.detail, "")
                    for p in web.pages(stream, form == "warc", longest)
                )
            else:
                yield from _text(stream, form == "text", longest)
    except _UNREADABLE as error:
        yield Broken("", "read/damaged_file", f"not a readable {form} file: {one_line(error)}", "")


def lines(stream: BinaryIO, longest: int) -> Iterator[bytes | int]:
    """Lines without their ends; for a line over ``longest`` bytes its length instead, never held whole."""
    rest, skipped = b"", 0
    while chunk := stream.read(_CHUNK):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            size, skipped = skipped + len(line), 0
            yield line if size <= longest else size
        if skipped + len(rest) > longest:
            skipped, rest = skipped + len(rest), b""
    if rest or skipped:
        yield rest if skipped + len(rest) <= longest else skipped + len(rest)


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast(BinaryIO, _Gzip(path))
    if path.suffix == ".zst":
        return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb")


class _Gzip(gzip.GzipFile):
    """Gives what it has before it fails on a truncated file; ``GzipFile.read`` gives nothing of its last piece."""

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes; the whole file when it is negative."""
        return super().read(size) if size is None or size < 0 else self.read1(size)


def _jsonl(stream: BinaryIO, field: TextField, longest: int) -> Iterator[Record | Broken]:
    number = 0
    try:
        for number, line in enumerate(lines(stream, longest), 1):
            place = f"line {number}"
            if isinstance(line, int):
                yield Broken(place, "read/line_too_long", f"{line} bytes", "")
            elif line.strip():
                yield _json_row(place, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, field)
    except _UNREADABLE as error:
        yield Broken(f"line {number + 1}", "read/truncated_file", f"cut off or damaged: {one_line(error)}", "")


def _json(stream: BinaryIO, field: TextField, longest: int) -> Iterator[Record | Broken]:
    data = _whole(stream, longest)
    try:
        tree = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        yield from _jsonl(io.BytesIO(data), field, longest)
        return
    for number, row in enumerate(tree if isinstance(tree, list) else [tree], 1):
        text = field.of(row)
        yield Broken(f"row {number}", "read/no_text", _missing(field, row), "") if text is None else _encodable(f"row {number}", text, row)


def _whole(stream: BinaryIO, longest: int) -> bytes:
    """All of a stream, or a little more than ``longest`` bytes of it."""
    data = bytearray()
    while len(data) <= longest and (chunk := stream.read(_CHUNK)):
        data += chunk
    return bytes(data)


def _json_row(place: str, line: bytes, field: TextField) -> Record | Broken:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _invalid_utf8(place, line, error)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python converts
        return Broken(place, "read/invalid_json", f"not valid JSON: {one_line(error)}", _sample(line))
    text = field.of(row)
    if text is None:
        return Broken(place, "read/no_text", _missing(field, row), _sample(line))
    return _encodable(place, text, row)


def _missing(field: TextField, row: object) -> str:
    return f"no text in field {field.name!r}" if isinstance(row, dict) else "not a JSON object"


def _encodable(place: str, text: str, row: dict[str, Any]) -> Record | Broken:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return Broken(place, "read/lone_surrogate", "half of a surrogate pair in an escape", repr(text[:200]))
    return Record(place, text, row)


def _decoded(place: str, data: bytes, encoding: str, row: dict[str, Any]) -> Record | Broken:
    try:
        return Record(place, data.decode(encoding), row)
    except UnicodeDecodeError as error:
        return _invalid_utf8(place, data, error)


def _invalid_utf8(place: str, data: bytes, error: UnicodeDecodeError) -> Broken:
    what = f"invalid UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start})"
    return Broken(place, "read/invalid_utf8", what, _sample(data))


def _text(stream: BinaryIO, paragraphs: bool, longest: int) -> Iterator[Record | Broken]:
    """Paragraphs with the number of their first line, or the whole file. One unreadable line spoils its paragraph only."""
    if not paragraphs:
        data = _whole(stream, longest)
        too_long = Broken("", "read/file_too_long", f"over {longest} bytes", "")
        yield too_long if len(data) > longest else _decoded("", data, "utf-8-sig", {})
        return
    current: list[bytes] = []
    number, first = 0, 1
    for number, line in enumerate(lines(stream, longest), 1):
        if isinstance(line, int):
            yield Broken(f"line {number}", "read/line_too_long", f"{line} bytes", "")
        elif line.strip():
            first = first if current else number
            current.append(line)
        elif current:
            yield _paragraph(first, current)
            current = []
    if current:
        yield _paragraph(first, current)


def _paragraph(first: int, content: list[bytes]) -> Record | Broken:
    for number, line in enumerate(content, first):
        try:
            line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return _invalid_utf8(f"line {number}", line, error)
    return Record(f"line {first}", b"\n".join(content).decode("utf-8-sig").strip(), {})


def _parquet(path: Path, field: TextField) -> Iterator[Record | Broken]:
    import pyarrow.parquet as pq

    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                text = field.of(row)
                place = f"row {number}"
                if text is None:
                    yield Broken(place, "read/no_text", _missing(field, row), "")
                else:
                    yield Record(place, text, row)


def _sample(data: bytes) -> str:
    return data[:2000].decode("utf-8", errors="replace")
