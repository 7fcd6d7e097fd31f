"""Images of a benchmark's rows, whichever way a file holds them, and where in a prompt they stand.

A cell is a path beside the file, a data URL, bytes, what the Hub's Parquet holds (``{"bytes": ..., "path": ...}``), an ``image_url`` part of OpenAI's
chat, or a list of any of these; an empty one holds none. MMMU's questions say ``<image 2>`` where an image stands; all others stand where the prompt
says ``{image}``. Left out: images behind a URL, since a run fetches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.evals.benchmark import IMAGE
from modelyard.formats.images import Image, ImageError, cleaned, referenced
from modelyard.formats.json_file import Line

PLACE = "image"
"""Name of the prompt's field where images stand."""
NUMBERED = re.compile(r"<image (\d{1,2})>")


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


def placed(names: Sequence[str], fields: Mapping[str, str], images: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """A prompt's fields, ``names`` in their order, with places for images, and the images in the order in which they then stand there."""
    order: list[str] = []
    named = {int(number) - 1 for text in fields.values() for number in NUMBERED.findall(text)}

    def put(match: re.Match[str]) -> str:
        number = int(match[1]) - 1
        if not 0 <= number < len(images):
            return match[0]
        order.append(images[number])
        return IMAGE

    made = {}
    for name in names:
        if name in fields:
            made[name] = NUMBERED.sub(put, fields[name])
        else:
            others = [image for number, image in enumerate(images) if number not in named]
            order += others
            made[name] = IMAGE * len(others)
    return made, tuple(order)
