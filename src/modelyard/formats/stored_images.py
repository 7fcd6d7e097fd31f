"""Images in Parquet files beside the records that name them: a stage that hands on records with images writes ``images/*.parquet``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.images import Image, pixels_of

if TYPE_CHECKING:  # slow to import, and most who name images read none
    import pyarrow as pa
    import pyarrow.parquet as pq

FOLDER = "images"
GROUP_BYTES, KEPT_BYTES = 1 << 22, 1 << 28
"""Of images that are written together, and of those that a reader keeps."""


@cache
def schema() -> pa.Schema:
    """Columns of a file of images: the fields of :class:`Image`."""
    import pyarrow as pa

    text, number = pa.string(), pa.int32()
    types = {"id": text, "bytes": pa.binary(), "width": number, "height": number, "phash": text, "source": text, "licence": text}
    return pa.schema(list(types.items()))


class Described(NamedTuple):
    """Where an image stands, and its size."""

    file: int
    group: int
    row: int
    width: int
    height: int


class ImageFiles:
    """The images of a stage's directory, by their ids; none where it has no folder of them. Reads a group of rows at a time and keeps some."""

    def __init__(self, directory: Path) -> None:
        """Raises ValueError for a file that is none of images."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.directory = directory
        self._places: dict[str, Described] = {}
        self._files: list[pq.ParquetFile] = []
        self._groups: OrderedDict[tuple[int, int], list[Image]] = OrderedDict()
        self._bytes = 0
        for path in sorted((directory / FOLDER).glob("*.parquet")):
            try:
                self._index(pq.ParquetFile(path))
            except (pa.ArrowException, OSError, KeyError):
                raise ValueError(f"{path}: no Parquet file of images") from None

    def _index(self, file: pq.ParquetFile) -> None:
        if not file.schema_arrow.equals(schema()):
            raise KeyError
        for group in range(file.num_row_groups):
            about = file.read_row_group(group, columns=["id", "width", "height"]).to_pylist()
            for row, one in enumerate(about):
                self._places[one["id"]] = Described(len(self._files), group, row, one["width"], one["height"])
        self._files.append(file)

    def row(self, image: str) -> Image:
        """All that is stored of an image. Raises ValueError for an id that is not there."""
        place = self._place(image)
        key = (place.file, place.group)
        if key not in self._groups:
            rows = self._files[place.file].read_row_group(place.group).to_pylist()
            self._groups[key] = [Image(*row.values()) for row in rows]
            self._bytes += sum(len(one.png) for one in self._groups[key])
            while self._bytes > KEPT_BYTES and len(self._groups) > 1:
                self._bytes -= sum(len(one.png) for one in self._groups.popitem(last=False)[1])
        self._groups.move_to_end(key)
        return self._groups[key][place.row]

    def pixels(self, image: str) -> NDArray[np.uint8]:
        """[h, w, 3]. Raises ValueError as :meth:`row`."""
        return pixels_of(self.row(image).png)

    def size(self, image: str) -> tuple[int, int]:
        """Width and height. Raises ValueError as :meth:`row`."""
        place = self._place(image)
        return place.width, place.height

    def _place(self, image: str) -> Described:
        if image not in self._places:
            raise ValueError(f"{self.directory}: no image {image[:16]}")
        return self._places[image]

    def __contains__(self, image: str) -> bool:
        return image in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Held:
    """Images in memory, as a model is shown them."""

    def __init__(self, images: Mapping[str, Image]) -> None:
        self.images = images

    def pixels(self, image: str) -> NDArray[np.uint8]:
        """[h, w, 3]. Raises KeyError for an id that is not there."""
        return pixels_of(self.images[image].png)

    def size(self, image: str) -> tuple[int, int]:
        """Width and height."""
        found = self.images[image]
        return found.width, found.height


class ImageWriter:
    """Writes images, each once, as ``images/{name}.parquet``; no file where there are none. In memory is one group at a time."""

    def __init__(self, directory: Path, name: str = "0") -> None:
        self.path = directory / FOLDER / f"{name}.parquet"
        self.ids: set[str] = set()
        self._waiting: list[Image] = []
        self._bytes = 0
        self._writer: pq.ParquetWriter | None = None

    def add(self, image: Image) -> None:
        """One more, unless it is there."""
        if image.id in self.ids:
            return
        self.ids.add(image.id)
        self._waiting.append(image)
        self._bytes += len(image.png)
        if self._bytes >= GROUP_BYTES:
            self._flush()

    def __enter__(self) -> ImageWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._waiting:
            self._flush()
        if self._writer:
            self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self.path, schema())
        self._writer.write_table(
            pa.Table.from_pylist([dict(zip(schema().names, one, strict=True)) for one in self._waiting], schema=schema())
        )
        self._waiting, self._bytes = [], 0


def write(directory: Path, rows: Iterable[Image], name: str = "0") -> None:
    """The images, each once, as ``images/{name}.parquet``; no file where there are none."""
    with ImageWriter(directory, name) as writer:
        for row in rows:
            writer.add(row)
