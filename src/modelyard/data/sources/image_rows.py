"""Reads files of images with texts, row by row: JSON lines with paths or data URLs, Parquet with bytes, webdataset's tar.

As :mod:`modelyard.data.sources.record_files` does for documents: rows in are rows given and rows set aside, each a
:class:`~modelyard.data.sources.record.Broken` with a reason, so that one bad line of a million is counted and named. A tar is read as a stream and
never unpacked; what belongs together there has the same name up to the first dot (webdataset). Left out: what an image's bytes are
(:func:`modelyard.formats.images.cleaned`), tar files in shards (a source each).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.data.corpus.document import one_line
from modelyard.data.sources.compressed import UNREADABLE, chunks, opened
from modelyard.data.sources.json_rows import lines
from modelyard.data.sources.parquet_rows import batch_rows
from modelyard.data.sources.record import Broken, invalid_utf8, sample
from modelyard.formats.images import MOST_BYTES

Form = Literal["jsonl", "parquet", "tar"]
SUFFIXES: dict[str, Form] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".tar": "tar"}
PACKED = (".gz", ".zst", ".bz2", ".xz")
PICTURES = ("bmp", "gif", "jpeg", "jpg", "png", "ppm", "tif", "tiff", "webp")
"""What the images of a tar are called."""
LONGEST = 2 * MOST_BYTES
"""Bytes of a line, or of a sample of a tar: an image's in base64, and room for its text."""
MOST_MEMBERS = 64
"""Of a sample."""
NAMED = 200
"""Characters of a sample's name that are told."""


class ImageRow(NamedTuple):
    """One image as the file has it, and what is said beside it."""

    place: str
    """Where in the file."""
    image: bytes | str
    """Its bytes, a data URL, or a path below the folder of the file."""
    fields: Mapping[str, Any]


def form_of(path: str) -> Form | None:
    """The form that a file's name tells; None for any other."""
    name = path.lower()
    bare = next((name[: -len(suffix)] for suffix in PACKED if name.endswith(suffix)), name)
    return SUFFIXES.get(PurePosixPath(bare).suffix)


def rows(path: Path, form: Form, image: str, texts: Sequence[str]) -> Iterator[ImageRow | Broken]:
    """Rows in order; ``image``: key or column of the image, which a tar has by its name, ``texts``: those of the texts that are wanted."""
    try:
        match form:
            case "jsonl":
                yield from _lines(path, image)
            case "parquet":
                yield from _table(path, image, texts)
            case "tar":
                yield from _archive(path)
    except (*UNREADABLE, pa.ArrowException, tarfile.TarError) as error:
        yield Broken("", "read/damaged_file", f"cut off or damaged: {one_line(error)}", "")


def _lines(path: Path, image: str) -> Iterator[ImageRow | Broken]:
    with opened(path) as stream:
        for number, line in enumerate(lines(chunks(stream), LONGEST), 1):
            place = f"line {number}"
            if isinstance(line, int):
                yield Broken(place, "read/line_too_long", f"{line} bytes", "")
            elif line.strip():
                yield _line(place, line, image)


def _line(place: str, line: bytes, image: str) -> ImageRow | Broken:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return invalid_utf8(place, line, error)
    except (ValueError, RecursionError) as error:
        return Broken(place, "read/invalid_json", f"not valid JSON: {one_line(error)}", sample(line))
    if not isinstance(row, dict):
        return Broken(place, "read/no_object", "not an object", sample(line))
    return _row(place, row, image)


def _row(place: str, row: Mapping[str, Any], image: str) -> ImageRow | Broken:
    """The row of an image that is bytes, a reference, or what the Hub makes of either (``{"bytes": ..., "path": ...}``)."""
    cell = row.get(image)
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path") or cell.get("url")
    if not isinstance(cell, bytes | str) or not cell:
        return Broken(place, "read/no_image", f"no image in {image!r}", "")
    return ImageRow(place, cell, row)


def _table(path: Path, image: str, texts: Sequence[str]) -> Iterator[ImageRow | Broken]:
    number = 0
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        leaves = [file.schema.column(index).path for index in range(len(file.schema))]
        columns = [leaf for leaf in leaves if leaf.partition(".")[0] in (image, *texts)]
        for group in range(file.num_row_groups):
            size = batch_rows(file, group, columns)
            for batch in file.iter_batches(batch_size=size, row_groups=[group], columns=columns):
                for place in range(batch.num_rows):
                    number += 1
                    try:
                        row = batch.slice(place, 1).to_pylist()[0]
                    except (ValueError, OverflowError, pa.ArrowException) as error:
                        yield Broken(f"row {number}", "read/unreadable_row", one_line(error), "")
                    else:
                        yield _row(f"row {number}", row, image)


class _Sample:
    """The members of a tar with one name up to the first dot, of which no more is held than an image and its texts take."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.held: dict[str, bytes] = {}
        self.reason = ""
        """Why it is none; "" while it is one."""
        self._bytes = 0

    def put(self, kind: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        """One more member, read where the sample may still be one."""
        self.reason = self.reason or self._refused(kind, member)
        if not self.reason:
            content = archive.extractfile(member)
            assert content is not None, "a regular file"
            self.held[kind] = content.read()
            self._bytes += member.size

    def _refused(self, kind: str, member: tarfile.TarInfo) -> str:
        if not member.isfile() or member.issparse():
            return "read/no_file"
        if kind in self.held:
            return "read/member_twice"
        if len(self.held) == MOST_MEMBERS:
            return "read/too_many_members"
        return "read/too_many_bytes" if member.size > MOST_BYTES or self._bytes + member.size > LONGEST else ""


def _archive(path: Path) -> Iterator[ImageRow | Broken]:
    """The samples of a tar, its folders apart."""
    current = None
    with opened(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
        for member in archive:
            archive.members = []  # it would keep every header
            if member.isdir():
                continue
            folder, _, file = member.name.rpartition("/")
            stem, _, kind = file.partition(".")
            name = f"{folder}/{stem}"
            if current is not None and current.name != name:
                yield _row_of(current)
            if current is None or current.name != name:
                current = _Sample(name)
            current.put(kind.lower(), member, archive)
    if current is not None:
        yield _row_of(current)


def _row_of(made: _Sample) -> ImageRow | Broken:
    place, held = made.name.removeprefix("/")[:NAMED], made.held
    if made.reason:
        return Broken(place, made.reason, "", "")
    images = [kind for kind in held if kind in PICTURES]
    if len(images) != 1:
        return Broken(place, "read/no_image" if not images else "read/several_images", f"{len(images)} images", "")
    if not held[images[0]]:
        return Broken(place, "read/no_image", "an empty file", "")
    fields: dict[str, Any] = {}
    for kind, data in held.items():
        if kind in PICTURES:
            continue
        try:
            text = data.decode("utf-8-sig")
            spelled = json.loads(text) if kind == "json" else text.strip()
        except UnicodeDecodeError as error:
            return invalid_utf8(place, data, error)
        except (ValueError, RecursionError) as error:
            return Broken(place, "read/invalid_json", f"not valid JSON: {one_line(error)}", "")
        fields |= spelled if isinstance(spelled, dict) else {kind: spelled}
    return ImageRow(place, held[images[0]], fields)
