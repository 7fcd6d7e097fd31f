"""Images as every stage meets them: cleaned pixels under the hash of their bytes, in Parquet files beside the records that name them.

A stage that hands on records with images writes ``images/*.parquet`` with the columns of :class:`Image`; :class:`ImageFiles` reads them. What
people bring (a file, a data URL) goes through :func:`cleaned` first: RGB on white, upright, without metadata, stored as PNG, so that equal
pixels have equal ids and nothing of a file is left but what can be seen. Near copies have perceptual hashes that differ in few bits (Zauner
2010, the DCT of a small grey picture). What cannot be used is refused with a reason, before any of it is decoded where that is possible.
Left out: video, vector graphics.
"""

from __future__ import annotations

import base64
import io
import re
import struct
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelyard import whole_file

if TYPE_CHECKING:  # slow to import, and most who name images read none
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image as Pillow

FOLDER = "images"
MOST_BYTES = 1 << 25
"""Of a file."""
MOST_PIXELS = 1 << 26
"""Width times height of an image; a decompression bomb is one with more."""
COPY_BITS, COPY_LEVELS = 8, 32
"""Bits in which the perceptual hashes of copies differ at most, and levels of 255 by which a colour of their 16 x 16 pictures does."""
READ = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read: pixels and nothing that is run (Pillow gives an EPS file to Ghostscript). An MPO, the JPEG of many phones, which holds
a second picture behind the first, is opened as one."""
GROUP_BYTES, KEPT_BYTES = 1 << 22, 1 << 28
"""Of images that are written together, and of those that a reader keeps."""
DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, KeyError, IndexError, TypeError, OverflowError)
"""What Pillow raises of files that are none."""


class ImageError(ValueError):
    """An image that cannot be used; the message says why in a few words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason, self.message = reason, message
        """What it is counted under: ``broken``, ``animated``, ``too_many_bytes``, ``too_many_pixels``, or of a reference ``behind_url``,
        ``elsewhere`` or ``missing``."""

    def __str__(self) -> str:
        return self.message


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


@cache
def schema() -> pa.Schema:
    """Columns of a file of images: the fields of :class:`Image`."""
    import pyarrow as pa

    text, number = pa.string(), pa.int32()
    types = {"id": text, "bytes": pa.binary(), "width": number, "height": number, "phash": text, "source": text, "licence": text}
    return pa.schema(list(types.items()))


def cleaned(data: bytes, source: str = "", licence: str = "") -> Image:
    """The image that a file's bytes hold. Raises ImageError for one that is broken, animated or too large."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    if len(data) > MOST_BYTES:
        raise ImageError("too_many_bytes", f"more than {MOST_BYTES >> 20} MB")
    Pillow.init()  # or a format whose plugin nobody has loaded yet is a KeyError
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pillow.open(io.BytesIO(data), formats=READ) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise ImageError("too_many_pixels", f"{opened.width} x {opened.height} pixels, more than {MOST_PIXELS}")
                if opened.format != "MPO" and getattr(opened, "is_animated", False):
                    raise ImageError("animated", "animated")  # an MPO is many phones' JPEG, with a second picture behind the first
                layered = ImageOps.exif_transpose(_eight_bits(opened)).convert("RGBA")
    except ImageError:
        raise
    except Pillow.DecompressionBombError:
        raise ImageError("too_many_pixels", f"more than {MOST_PIXELS} pixels") from None
    except BROKEN:
        raise ImageError("broken", "broken, or of no format that is read") from None
    white = Pillow.new("RGBA", layered.size, "white")
    return of_pixels(np.asarray(Pillow.alpha_composite(white, layered).convert("RGB")), source, licence)


def _eight_bits(opened: Pillow.Image) -> Pillow.Image:
    """Grey of 16 bits as grey of 8, which Pillow would clip to white."""
    from PIL import Image as Pillow

    if not opened.mode.startswith("I;16"):
        return opened
    small = Pillow.fromarray((np.asarray(opened).astype(np.uint16) >> 8).astype(np.uint8))
    small.info = opened.info
    return small


def of_pixels(pixels: NDArray[np.uint8], source: str = "", licence: str = "") -> Image:
    """Pixels [h, w, 3] as they are stored."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    height, width = pixels.shape[:2]
    return Image(sha256(data).hexdigest(), data, width, height, perceptual_hash(pixels), source, licence)


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    """[h, w, 3] of a stored image."""
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(png)) as opened:
        return np.asarray(opened.convert("RGB"))


def perceptual_hash(pixels: NDArray[np.uint8]) -> str:
    """Which of the 8 x 8 lowest frequencies of the grey picture, made 32 x 32, are above their median (pHash); 16 hex digits."""
    import scipy.fft
    from PIL import Image as Pillow

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
        raise ImageError("broken", "no data URL of an image in base64")
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except ValueError:  # what is no base64, and what is no ASCII
        raise ImageError("broken", "its base64 is broken") from None


def referenced(reference: str, folder: Path) -> bytes:
    """The bytes that a data URL holds, or a file below ``folder``. Raises ImageError."""
    if is_data_url(reference):
        return of_data_url(reference)
    said = reference if len(reference) <= 60 else f"{reference[:57]}..."
    if "://" in reference or reference.startswith("data:"):
        raise ImageError("behind_url", f"{said!r} is behind a URL; images are files or data URLs")
    if PurePosixPath(reference).is_absolute() or ".." in PurePosixPath(reference).parts or "\0" in reference:
        raise ImageError("elsewhere", f"{said!r} is not below the folder of the file that names it")
    try:
        return whole_file.read(folder / reference, MOST_BYTES)
    except (OSError, UnicodeEncodeError):
        raise ImageError("missing", f"{said!r}: No such file") from None
    except whole_file.FileError:
        raise ImageError("too_many_bytes", f"{said!r}: no regular file of at most {MOST_BYTES >> 20} MB") from None


def data_url(png: bytes) -> str:
    """A PNG as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


class NearCopies:
    """Images that are looked for among others: perceptual hashes find who may be a copy, small pictures side by side say who is.

    Plain drawings share hashes by the hundred (of easy-VQA's test pictures 61% lie within 2 bits of one to train on), so a hash alone convicts
    nobody. What is found and what is taken for a copy: ``python -m bench.image_copies``. Every hash is looked at.
    """

    def __init__(self, images: Iterable[Image] = ()) -> None:
        self._ids: list[str] = []
        self._hashes = np.zeros(64, dtype=np.uint64)
        self._small = np.zeros((64, 16, 16, 3), dtype=np.uint8)
        for image in images:
            self.add(image)

    def add(self, image: Image) -> None:
        """One more that others may copy."""
        if len(self._ids) == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._small = np.concatenate([self._small, np.zeros_like(self._small)])
        place = len(self._ids)
        self._hashes[place], self._small[place] = int(image.phash, 16), _shrunk(image)
        self._ids.append(image.id)

    def of(self, image: Image) -> str:
        """The id of the first image that this one is, or nearly copies; "" where there is none."""
        bits = np.bitwise_count(self._hashes[: len(self._ids)] ^ np.uint64(int(image.phash, 16)))
        near = np.flatnonzero(bits <= COPY_BITS)
        if not len(near):
            return ""
        levels = np.abs(self._small[near] - _shrunk(image).astype(np.int16)).max(axis=(1, 2, 3))
        alike = near[levels <= COPY_LEVELS]
        return self._ids[alike[0]] if len(alike) else ""


def _shrunk(image: Image) -> NDArray[np.uint8]:
    """[16, 16, 3]."""
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(image.png)) as opened:
        return np.asarray(opened.convert("RGB").resize((16, 16), Pillow.Resampling.BOX))


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
