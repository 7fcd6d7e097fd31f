"""Files of users that are read whole: regular ones, up to a size.

A pipe nobody writes to or a device without an end would hold a program for ever, and a few kilobytes of gzip can unpack to more than the
memory. What is streamed in bounded memory is :mod:`modelyard.data.sources`' work.
"""

from __future__ import annotations

import gzip
import io
import stat
import zlib
from pathlib import Path

LARGEST = 1 << 30
"""Bytes, unpacked: what a program can hold as text and as the objects that it spells."""
RATIO, FREE = 200, 1 << 26
"""Text unpacks to 3 to 50 times its size; over this ratio only files of up to ``FREE`` bytes are unpacked (deflate ends at 1,032)."""
GZIP = b"\x1f\x8b"
"""What a gzip file begins with, whatever it is called."""


class FileError(ValueError):
    """A file that cannot be used; one line that names it."""


def require_regular(path: Path) -> None:
    """Raises FileError for a pipe, a socket or a device; OSError where nothing is there."""
    kind = path.stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise FileError(f"{path}: not a regular file")


def read(path: Path, most: int = LARGEST) -> bytes:
    """All bytes of a file. Raises FileError where it is no regular file or over ``most`` bytes, OSError where it cannot be read."""
    require_regular(path)
    with path.open("rb") as file:
        data = file.read(most + 1)
    return _bounded(path, data, most)


def read_unpacked(path: Path, most: int = LARGEST) -> bytes:
    """The same, unpacked where it is gzipped. Raises FileError also for a damaged archive."""
    data = read(path, most)
    if not data.startswith(GZIP):
        return data
    most = min(most, max(FREE, RATIO * len(data)))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return _bounded(path, file.read(most + 1), most)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


def _bounded(path: Path, data: bytes, most: int) -> bytes:
    if len(data) > most:
        raise FileError(f"{path}: over {most:,} bytes, which are the most that are read")
    return data
