"""Images of a benchmark's rows, whichever way a file holds them.

A cell is a path beside the file, a data URL, bytes, what the Hub's Parquet holds (``{"bytes": ..., "path": ...}``), an ``image_url`` part of OpenAI's
chat, or a list of any of these; an empty one holds none. Left out: images behind a URL, since a run fetches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.formats.images import Image, ImageError, cleaned, referenced
from modelyard.formats.json_file import Line


def images_of(line: Line, columns: Sequence[str], beside: Path) -> list[Image]:
    """The images of a row, in the order of the columns. Raises ValueError naming line and column for one that cannot be used."""
    found = []
    for column in columns:
        for cell in _cells(line.fields.get(column)):
            try:
                found.append(cleaned(_bytes(cell, beside), source=str(beside)))
            except ImageError as error:
                raise ValueError(f"{line.where}: {column}: {error}") from None
    return found


def _cells(value: Any) -> Iterator[Any]:
    """The images of a cell, each as the file has it."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from _cells(one)
    elif value is not None and value != "":
        yield value


def _bytes(cell: Any, beside: Path) -> bytes:
    """What an image's file holds. Raises ImageError."""
    if isinstance(cell, Mapping) and "image_url" in cell:
        cell = cell["image_url"]
    if isinstance(cell, Mapping) and (cell.get("bytes") or cell.get("url")):
        cell = cell.get("bytes") or cell["url"]
    if isinstance(cell, Mapping):
        cell = cell.get("path")
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, str):
        raise ImageError("broken", f"neither a path nor a data URL nor bytes, but {type(cell).__name__}")
    return referenced(cell, beside)
