"""Opens a file whatever it is packed with: gzip, zstd, bzip2, xz or nothing, told by its first bytes and not by its name.

A name lies: downloads are unpacked on the way and keep ``.gz``. A cut file gives what stands before the cut and then fails,
so every reader here hands out what it has before it raises. Left out: archives of several files (zip, tar).
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import zstandard

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
"""What a damaged or cut file raises while it is read."""
_CHUNK = 1 << 16
_ZSTD_PIECE = 1 << 10
"""Bytes unpacked at once: a zstd block of 4 bytes may stand for 128 kB, so that 1 kB of them is 33 MB."""
_ZSTD_WINDOW = 1 << 31
"""The longest window that the format's own tool writes (``zstd --long=31``); it is the memory that such a file needs."""


class Stream(Protocol):
    """What readers of rows need of a file."""

    def read(self, size: int = ..., /) -> bytes:
        """At least one and at most ``size`` bytes, none at the end."""


@contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """The unpacked content of a file. Reading raises one of :data:`UNREADABLE` where it is damaged or cut."""
    with path.open("rb") as raw:
        head = raw.read(6)
        raw.seek(0)
        if head.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=raw) as packed:
                yield _Available(packed)
        elif head.startswith(b"BZh"):
            with bz2.BZ2File(raw) as packed:
                yield _Available(packed)
        elif head.startswith(b"\xfd7zXZ\0"):
            with lzma.LZMAFile(raw) as packed:
                yield _Available(packed)
        elif head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
            yield _Zstd(raw)
        else:
            yield raw


def chunks(stream: Stream) -> Iterator[bytes]:
    """The content in pieces of at most 64 kB."""
    while chunk := stream.read(_CHUNK):
        yield chunk


class _Available:
    """``read`` of a packed file gives nothing of its last piece when the file is cut; ``read1`` gives it."""

    def __init__(self, packed: Any) -> None:
        self._packed = packed

    def read(self, size: int = _CHUNK, /) -> bytes:
        data: bytes = self._packed.read1(size)
        return data


class _Zstd:
    """All frames of a zstd file, whatever their window."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._packed, self._plain = raw, b"", memoryview(b"")
        self._begin()

    def _begin(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        self._started = False

    def read(self, size: int = _CHUNK, /) -> bytes:
        while not self._plain:
            self._packed = self._packed or self._raw.read(_ZSTD_PIECE)
            if not self._packed:
                if self._started:
                    raise EOFError("the last zstd frame is not complete")
                return b""
            self._started = True
            self._plain, self._packed = memoryview(self._frame.decompress(self._packed)), b""
            if self._frame.eof:
                self._packed = self._frame.unused_data
                self._begin()
        data, self._plain = bytes(self._plain[:size]), self._plain[size:]
        return data
