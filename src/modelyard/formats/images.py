"""Images as every stage meets them: cleaned pixels under the hash of their bytes.

What people bring (a file, a data URL) goes through :func:`cleaned` first: RGB on white, upright, without metadata, stored as PNG, so that equal
pixels have equal ids and nothing of a file is left but what can be seen. What cannot be used is refused with a reason, before any of it is decoded
where that is possible. Left out: video, vector graphics.
"""

from __future__ import annotations

import base64
import io
import re
import struct
import warnings
import zlib
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelyard import whole_file

if TYPE_CHECKING:  # slow to import, and most who name images read none
    from PIL import Image as Pillow

MOST_BYTES = 1 << 25
"""Of a file."""
MOST_PIXELS = 1 << 26
"""Width times height of an image; a decompression bomb is one with more."""
READ = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read: pixels and nothing that is run (Pillow gives an EPS file to Ghostscript). An MPO, the JPEG of many phones, which holds
a second picture behind the first, is opened as one."""
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
