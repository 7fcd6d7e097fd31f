"""Rows of a Parquet file: only the columns that are asked for, in batches of bounded size.

A column nobody asked for is not decoded, so a date outside Python's range or a damaged page there is no matter. Text may be
stored as strings, as binary, in a dictionary, or inside structs (``meta.text``); lists hold no single text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelyard.data.corpus.document import one_line
from modelyard.data.sources.record import Broken, Record, TextField, invalid_utf8

_BATCH_BYTES, _BATCH_ROWS = 16e6, 256
_TEMPORAL = ("DATE", "TIME", "TIMESTAMP")
"""Logical types that may not fit Python's; no text is in them."""


def rows(path: Path, field: TextField, longest: int) -> Iterator[Record | Broken]:
    """Rows in order; a text over ``longest`` bytes is set aside. Raises pa.ArrowException for what is no Parquet file."""
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        columns = _columns(file, field)
        number = 0
        for group in range(file.num_row_groups):
            size = batch_rows(file, group, columns)
            for batch in file.iter_batches(batch_size=size, row_groups=[group], columns=columns):
                made = _any_text(batch, field, number) if field.or_any else _texts(batch, field, longest, number)
                yield from made
                number += batch.num_rows


def _columns(file: pq.ParquetFile, field: TextField) -> list[str]:
    """Paths of the leaves to read."""
    leaves = [file.schema.column(index) for index in range(len(file.schema))]
    if field.or_any:
        return [leaf.path for leaf in leaves if leaf.logical_type.type not in _TEMPORAL and leaf.physical_type != "INT96"]
    wanted = [name for name in (field.name, field.id_name) if name]
    return [leaf.path for leaf in leaves if any(leaf.path == name or leaf.path.startswith(f"{name}.") for name in wanted)]


def batch_rows(file: pq.ParquetFile, group: int, columns: list[str]) -> int:
    """How many rows of a group are taken at once, by their mean size."""
    about = file.metadata.row_group(group)
    chunks = [about.column(index) for index in range(about.num_columns)]
    size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
    return int(max(1, min(_BATCH_ROWS, _BATCH_BYTES * about.num_rows // max(1, size))))


def _texts(batch: pa.RecordBatch, field: TextField, longest: int, before: int) -> Iterator[Record | Broken]:
    column = _column(batch, field.name)
    if column is not None and pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column is None or not _is_text(column.type):
        what = f"no text in field {field.name!r}" + (f", which holds {column.type}" if column is not None else "")
        yield from (Broken(f"row {before + row}", "read/no_text", what, "") for row in range(1, batch.num_rows + 1))
        return
    column = column.cast(pa.large_binary())
    sizes = pc.binary_length(column)
    cells = pc.if_else(pc.greater(sizes, longest), None, column).to_pylist()
    column = _column(batch, field.id_name) if field.id_name else None
    ids = _values(column) if column is not None else [None] * len(cells)
    for row, (cell, size, own) in enumerate(zip(cells, sizes.to_pylist(), ids, strict=True), before + 1):
        yield _record(f"row {row}", cell, size, field, own)


def _record(place: str, cell: bytes | None, size: int | None, field: TextField, own: Any) -> Record | Broken:
    if size is None:
        return Broken(place, "read/no_text", f"no text in field {field.name!r}", "")
    if cell is None:
        return Broken(place, "read/cell_too_long", f"{size} bytes", "")
    try:
        own = own.decode("utf-8") if isinstance(own, bytes) else own
        return Record(place, cell.decode("utf-8"), {field.id_name: own} if field.id_name else {})
    except UnicodeDecodeError as error:
        return invalid_utf8(place, error.object, error)


def _any_text(batch: pa.RecordBatch, field: TextField, before: int) -> Iterator[Record | Broken]:
    for number in range(batch.num_rows):
        place = f"row {before + number + 1}"
        try:
            row = batch.slice(number, 1).to_pylist()[0]
        except (ValueError, OverflowError, pa.ArrowException) as error:
            yield Broken(place, "read/unreadable_row", one_line(error), "")
        else:
            yield field.record(place, row)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """A column, or the field of a struct that a dotted name leads to."""
    if name in batch.schema.names:
        return batch.column(name)
    first, *rest = name.split(".")
    if not rest or first not in batch.schema.names:
        return None
    column = batch.column(first)
    for part in rest:
        if not pa.types.is_struct(column.type) or column.type.get_field_index(part) < 0:
            return None
        column = pc.struct_field(column, part)
    return column


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return any(
        test(kind)
        for test in (
            types.is_string,
            types.is_large_string,
            types.is_string_view,
            types.is_binary,
            types.is_large_binary,
            types.is_binary_view,
        )
    )


def _values(column: pa.Array) -> list[Any]:
    """Values of an id column; None for one that Python cannot hold."""
    found: list[Any] = []
    for value in column:
        try:
            found.append(value.as_py())
        except (ValueError, OverflowError):
            found.append(None)
    return found
