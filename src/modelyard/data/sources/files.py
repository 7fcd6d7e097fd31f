"""A user's own files: JSON lines, Parquet or plain text, declared in the config with licence and hash.

A broken row, invalid UTF-8 or a truncated Parquet stops the run with one line naming file and line, before anything is trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.config import Config
from modelyard.data.corpus.document import DataError, Document, Kind, content_group, one_line
from modelyard.store.file_hash import sha256_file


class FilesSource(Config):
    """One local file of documents."""

    name: str
    """Source name in tables and errors."""
    path: str
    """The file."""
    sha256: str
    """Hash of the file: another file is another corpus."""
    format: Literal["jsonl", "parquet", "text"]
    """jsonl and parquet: one document a row, in ``text_field``; text: paragraphs between blank lines."""
    kind: Kind
    """What the documents are."""
    licence: str
    """Their licence."""
    text_field: str = "text"
    """Field or column that holds the text."""


def read(source: FilesSource) -> list[Document]:
    """The documents of the file; DataError naming file and line when it cannot be used."""
    path = Path(source.path)
    where = f"source {source.name}: {path}"
    if not path.is_file():
        raise DataError(f"{where}: no such file")
    texts = read_texts(path, source.format, source.text_field, where)
    if (actual := sha256_file(path)) != source.sha256:
        raise DataError(f"{where} has changed: sha256 {actual}, the config says {source.sha256}")
    language = "python" if source.kind == "code" else "und"
    names = [f"{source.name}-{number}" for number in range(len(texts))]
    return [
        Document(name, source.name, source.kind, language, source.licence, content_group(text), text)
        for name, text in zip(names, texts, strict=True)
    ]


def read_texts(path: Path, form: str, text_field: str, where: str) -> list[str]:
    """Texts of a jsonl, parquet or text file."""
    if form == "parquet":
        return _parquet(path, text_field, where)
    text = decode(path.read_bytes(), where)
    if form == "jsonl":
        return [json_text(line, text_field, f"{where}: line {n}") for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    return [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]


def decode(data: bytes, where: str) -> str:
    """UTF-8 text; DataError naming the line of the first bad byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{where}: line {line}: invalid UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start})") from None


def json_text(line: str, text_field: str, where: str) -> str:
    """The text field of one JSON line."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON: {one_line(error)}") from None
    if not isinstance(row, dict) or not isinstance(row.get(text_field), str):
        raise DataError(f"{where}: no text in field {text_field!r}")
    return str(row[text_field])


def _parquet(path: Path, text_field: str, where: str) -> list[str]:
    try:
        table = pq.read_table(path, columns=[text_field])
        texts = table.column(text_field).cast(pa.string()).to_pylist()
    except (pa.ArrowException, KeyError, OSError) as error:
        raise DataError(f"{where}: not a readable Parquet file with a text column {text_field!r}: {one_line(error)}") from None
    for number, text in enumerate(texts, 1):
        if text is None:
            raise DataError(f"{where}: row {number}: no text in column {text_field!r}")
    return texts
