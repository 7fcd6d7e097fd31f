"""Images as every stage meets them: cleaned pixels under the hash of their bytes, in Parquet files beside the records that name them.

A stage that hands on records with images writes ``images/*.parquet`` with the columns of :class:`Image`; :class:`ImageFiles` reads them. What people bring
(a file, a data URL) goes through :func:`cleaned` first: RGB on white, upright, without metadata, stored as PNG, so that equal pixels have equal ids and
nothing of a file is left but what can be seen. Near copies have perceptual hashes that differ in few bits (Zauner 2010, the DCT of a small grey picture).
What cannot be used is refused with a reason, before any of it is decoded where that is possible. Left out: video, vector graphics.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.fft
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

FOLDER = "images"
MOST_BYTES = 1 << 25
"""Of a file."""
MOST_PIXELS = 1 << 26
"""Width times height of an image; a decompression bomb is one with more."""
COPY_BITS, COPY_LEVELS = 4, 16
"""Bits in which the perceptual hashes of copies differ at most, and levels of 255 by which no colour of their 16 x 16 pictures does."""
DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
SCHEMA = pa.schema([("id", pa.string()), ("bytes", pa.binary()), ("width", pa.int32()), ("height", pa.int32()), ("phash", pa.string()),
                    ("source", pa.string()), ("licence", pa.string())])  # fmt: skip
BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, KeyError, IndexError, TypeError, OverflowError)
"""What Pillow raises of files that are none."""


class ImageError(ValueError):
    """An image that cannot be used; the message is the reason in a few words."""


class Image(NamedTuple):
    """One image as it is stored."""

    id: str
    """sha256 (hex) of :attr:`png`."""
    png: bytes
    """PNG of the cleaned pixels, RGB."""
    width: int
    height: int
    phash: str
    """Perceptual hash, 16 hex digits."""
    source: str = ""
    """Where it comes from."""
    licence: str = ""
    """Of that."""


def cleaned(data: bytes, source: str = "", licence: str = "") -> Image:
    """The image that a file's bytes hold. Raises ImageError for one that is broken, animated or too large."""
    if len(data) > MOST_BYTES:
        raise ImageError(f"more than {MOST_BYTES >> 20} MB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pillow.open(io.BytesIO(data)) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise ImageError(f"{opened.width} x {opened.height} pixels, more than {MOST_PIXELS}")
                if getattr(opened, "n_frames", 1) > 1:
                    raise ImageError("animated")
                upright = ImageOps.exif_transpose(opened)
                layered = upright.convert("RGBA")
    except ImageError:
        raise
    except Pillow.DecompressionBombError:
        raise ImageError(f"more than {MOST_PIXELS} pixels") from None
    except BROKEN:
        raise ImageError("broken, or of no format that is read") from None
    white = Pillow.new("RGBA", layered.size, "white")
    return of_pixels(np.asarray(Pillow.alpha_composite(white, layered).convert("RGB")), source, licence)


def of_pixels(pixels: NDArray[np.uint8], source: str = "", licence: str = "") -> Image:
    """Pixels [h, w, 3] as they are stored."""
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    height, width = pixels.shape[:2]
    return Image(sha256(data).hexdigest(), data, width, height, perceptual_hash(pixels), source, licence)


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    """[h, w, 3] of a stored image."""
    with Pillow.open(io.BytesIO(png)) as opened:
        return np.asarray(opened.convert("RGB"))


def perceptual_hash(pixels: NDArray[np.uint8]) -> str:
    """Which of the 8 x 8 lowest frequencies of the grey picture, made 32 x 32, are above their median (pHash); 16 hex digits."""
    small = Pillow.fromarray(pixels).convert("L").resize((32, 32), Pillow.Resampling.BOX)
    low = scipy.fft.dctn(np.asarray(small, dtype=np.float64))[:8, :8].reshape(-1)
    bits = low > np.median(low[1:])
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def is_data_url(text: str) -> bool:
    """Whether a text is an image as a data URL."""
    return DATA_URL.match(text) is not None


def of_data_url(url: str) -> bytes:
    """The bytes of a data URL. Raises ImageError."""
    match = DATA_URL.match(url)
    if not match:
        raise ImageError("no data URL of an image in base64")
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except binascii.Error:
        raise ImageError("its base64 is broken") from None


def data_url(png: bytes) -> str:
    """A PNG as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


class NearCopies:
    """Images that are looked for among others: perceptual hashes find who may be a copy, small pictures side by side say who is.

    Plain drawings share hashes by the hundred (of easy-VQA's test pictures 61% lie within 2 bits of one to train on, and none is a copy), so a hash
    alone convicts nobody.
    """

    def __init__(self, images: Sequence[Image]) -> None:
        self.images = list(images)
        self._hashes = np.array([int(one.phash, 16) for one in self.images], dtype=np.uint64)
        self._small: dict[str, NDArray[np.int16]] = {}

    def of(self, image: Image) -> str:
        """The id of an image that this one is, or nearly copies; "" where there is none."""
        near = np.nonzero(np.bitwise_count(self._hashes ^ np.uint64(int(image.phash, 16))) <= COPY_BITS)[0].tolist() if self.images else []
        return next((self.images[i].id for i in near if self._alike(self.images[i], image)), "")

    def _alike(self, one: Image, other: Image) -> bool:
        return bool(np.abs(self._shrunk(one) - self._shrunk(other)).max() <= COPY_LEVELS)

    def _shrunk(self, image: Image) -> NDArray[np.int16]:
        if image.id not in self._small:
            with Pillow.open(io.BytesIO(image.png)) as opened:
                self._small[image.id] = np.asarray(opened.convert("RGB").resize((16, 16), Pillow.Resampling.BOX), dtype=np.int16)
        return self._small[image.id]


class ImageFiles:
    """The images of a stage's directory, by their ids; none where it has no folder of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._places: dict[str, tuple[int, int]] = {}
        self._tables: list[pa.Table] = []
        for path in sorted((directory / FOLDER).glob("*.parquet")):
            try:
                table = pq.read_table(path, schema=SCHEMA, memory_map=True)
            except (pa.ArrowException, OSError):
                raise ValueError(f"{path}: no Parquet file of images") from None
            self._places |= {name: (len(self._tables), row) for row, name in enumerate(table.column("id").to_pylist())}
            self._tables.append(table)

    def row(self, image: str) -> Image:
        """All that is stored of an image. Raises ValueError for an id that is not there."""
        if image not in self._places:
            raise ValueError(f"{self.directory}: no image {image[:16]}")
        table, row = self._places[image]
        return Image(*self._tables[table].slice(row, 1).to_pylist()[0].values())

    def pixels(self, image: str) -> NDArray[np.uint8]:
        """[h, w, 3]. Raises ValueError as :meth:`row`."""
        return pixels_of(self.row(image).png)

    def size(self, image: str) -> tuple[int, int]:
        """Width and height."""
        found = self.row(image)
        return found.width, found.height

    def __contains__(self, image: str) -> bool:
        return image in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def write(directory: Path, rows: Iterable[Image], name: str = "0") -> None:
    """The images, each once, as ``images/{name}.parquet``; no file where there are none."""
    once = {row.id: row for row in rows}
    if not once:
        return
    (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in once.values()], schema=SCHEMA)
    pq.write_table(table, directory / FOLDER / f"{name}.parquet")
