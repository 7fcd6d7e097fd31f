"""Token files in megatron-core's indexed format (``.bin`` and ``.idx``), one sequence and one document per text.

The ``.bin`` holds tokens one after another, the ``.idx`` where each sequence begins and which sequences are one document, so a reader memory-maps
both and never loses a document's boundary. Written as a stream: memory does not grow with the corpus. The layout is megatron-core 0.16's version 1
(``megatron/core/datasets/indexed_dataset.py``); megatron-core itself is not needed to write it and reads it in the tests. Left out: modes for
images.
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

    def add(self, tokens: npt.NDArray[np.integer]) -> None:
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
