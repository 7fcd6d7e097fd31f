"""Token files in megatron-core's indexed format (``.bin`` and ``.idx``), one sequence and one document per text.

The ``.bin`` holds tokens one after another, the ``.idx`` where each sequence begins and which sequences are one document, so a reader memory-maps
both and never loses a document's boundary. Written as a stream: memory does not grow with the corpus. The layout is megatron-core 0.16's version 1
(``megatron/core/datasets/indexed_dataset.py``); megatron-core itself, with what it imports, is not needed to write or read it, and reads what is
written here in the tests. Left out: modes for images, documents of several sequences.
"""

from __future__ import annotations

import struct
from array import array
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

_HEADER = b"MMIDIDX\x00\x00"
_CODES = {"uint16": 8, "int32": 4}
_HEAD = len(_HEADER) + struct.calcsize("<QBQQ")
Integers = npt.NDArray[np.integer]


class IndexedWriter:
    """Writes documents; the pair of files is complete when the context ends without an error."""

    def __init__(self, prefix: Path, vocabulary: int) -> None:
        """Args: ``prefix``: path without suffix; ``vocabulary``: number of token ids, which decides between 2 and 4 bytes a token."""
        self.prefix = prefix
        self.dtype = np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.int32)
        self.tokens = 0
        self._lengths = array("i")
        self._data = open(f"{prefix}.bin", "wb")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> IndexedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._data.close()
        if kind is None:
            self._write_index()

    @property
    def lengths(self) -> Integers:
        """Tokens of each document so far, [documents] int32."""
        return np.array(self._lengths, np.int32)

    def add(self, tokens: Integers) -> None:
        """Append one document's token ids, [tokens]."""
        self._data.write(tokens.astype(self.dtype).tobytes())
        self._lengths.append(tokens.size)
        self.tokens += tokens.size

    def _write_index(self) -> None:
        lengths = np.frombuffer(self._lengths, np.int32) if self._lengths else np.zeros(0, np.int32)
        starts = np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)])[: lengths.size] * self.dtype.itemsize
        with open(f"{self.prefix}.idx", "wb") as file:
            file.write(_HEADER + struct.pack("<QB", 1, _CODES[self.dtype.name]))
            file.write(struct.pack("<QQ", lengths.size, lengths.size + 1))
            file.write(lengths.tobytes() + starts.astype(np.int64).tobytes() + np.arange(lengths.size + 1, dtype=np.int64).tobytes())


class IndexedFile:
    """The documents of a pair of files, memory-mapped."""

    def __init__(self, prefix: Path) -> None:
        """Args: ``prefix``: path without suffix. Raises ValueError naming the file that is no index of this format."""
        index = Path(f"{prefix}.idx")
        head = index.open("rb").read(_HEAD) if index.is_file() else b""
        if len(head) < _HEAD or not head.startswith(_HEADER):
            raise ValueError(f"{index}: no index of token files")
        version, code, sequences, _ = struct.unpack("<QBQQ", head[len(_HEADER) :])
        names = [name for name, own in _CODES.items() if own == code]
        if version != 1 or not names:
            raise ValueError(f"{index}: version {version} and data type {code} are not read here")
        self.dtype = np.dtype(names[0])
        self._starts: Integers = np.zeros(0, np.int64)
        self._tokens: Integers = np.zeros(0, self.dtype)
        if sequences:
            self._starts = np.memmap(index, np.int64, "r", _HEAD + 4 * sequences, (sequences,))
            self._tokens = np.memmap(f"{prefix}.bin", self.dtype, "r")

    def __len__(self) -> int:
        return len(self._starts)

    def part(self, document: int, start: int, stop: int) -> Integers:
        """Tokens [start, stop) of a document; a view of the file."""
        begin = int(self._starts[document]) // self.dtype.itemsize
        return self._tokens[begin + start : begin + stop]
