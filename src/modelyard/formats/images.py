"""Images of a stage as others meet them (provisional: DATA's replaces it)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image


class ImageFiles:
    """Images by their ids."""

    def __init__(self, directory: Path) -> None:
        self._rows = {}
        for path in sorted((directory / "images").glob("*.parquet")):
            for row in pq.read_table(path).to_pylist():
                self._rows[row["id"]] = row

    def pixels(self, image: str) -> NDArray[np.uint8]:
        """[h, w, 3]."""
        return np.asarray(Image.open(io.BytesIO(self._rows[image]["bytes"])).convert("RGB"))

    def size(self, image: str) -> tuple[int, int]:
        """Width and height."""
        return self._rows[image]["width"], self._rows[image]["height"]

    def __contains__(self, image: str) -> bool:
        return image in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)


def write(directory: Path, images: Iterable[NDArray[np.uint8]]) -> list[str]:
    """Write pixels; their ids."""
    rows = []
    for pixels in images:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        data = buffer.getvalue()
        rows.append({"id": hashlib.sha256(data).hexdigest(), "bytes": data, "width": pixels.shape[1], "height": pixels.shape[0]})
    (directory / "images").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), directory / "images" / "0.parquet")
    return [row["id"] for row in rows]
