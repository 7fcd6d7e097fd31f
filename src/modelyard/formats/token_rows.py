"""Packed rows of a ``tokens`` artifact: what every stage reads that trains or measures on text.

Documents are packed into rows of ``seq_len + 1`` tokens (Brown et al. 2020, appendix B: separated by end-of-text, no padding). Rows are not stored:
the token files hold each document once, ``{split}_file.npy`` and ``{split}_document.npy`` say in which order documents follow each other (as
often as the mixture repeats them), ``{split}_start.npy`` where each begins in the stream that is cut into rows. All are memory-mapped, so a
rank reads the rows of its batches and nothing else, of a vocabulary of any size. A row is a function of its number alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from modelyard.config import Config
from modelyard.formats import json_file
from modelyard.formats.indexed import IndexedFile, IndexedWriter, Integers

INFO = "rows.json"
Split = Literal["train", "validation"]


class RowsInfo(Config):
    """What the rows of an artifact are."""

    seq_len: int
    """Tokens a model sees at once; rows hold one more."""
    separator: int
    """The token that ends every document, so that the next one follows it."""
    vocabulary: int
    """Token ids, largest one plus 1."""
    files: dict[Split, list[str]]
    """Split -> prefixes of its token files, in the order of their numbers."""


class Rows(Protocol):
    """Packed rows [N, S + 1], of a tokens artifact (:class:`TokenRows`) or in memory."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: Any, /) -> Integers:
        """The rows of these numbers."""


class Order(NamedTuple):
    """Documents in the order in which they are packed."""

    files: npt.NDArray[np.uint16]
    """[documents] number of the token file."""
    documents: npt.NDArray[np.int64]
    """[documents] number in that file."""
    lengths: npt.NDArray[np.int64]
    """[documents] tokens, the separator included."""


def write_order(directory: Path, split: Split, order: Order) -> None:
    """Write the files that say how a split's documents follow each other."""
    np.save(directory / f"{split}_file.npy", order.files)
    np.save(directory / f"{split}_document.npy", order.documents)
    np.save(directory / f"{split}_start.npy", np.concatenate([[0], np.cumsum(order.lengths)]).astype(np.int64))


def write_rows(directory: Path, rows: Mapping[Split, Integers], vocabulary: int, separator: int) -> None:
    """Write rows [N, S + 1] that are packed already, as one document each split."""
    width = next(iter(rows.values())).shape[1]
    for split, packed in rows.items():
        with IndexedWriter(directory / split, vocabulary) as writer:
            writer.add(packed.reshape(-1))
        write_order(directory, split, Order(np.zeros(1, np.uint16), np.zeros(1, np.int64), np.array([packed.size], np.int64)))
    info = RowsInfo(seq_len=width - 1, separator=separator, vocabulary=vocabulary, files={split: [split] for split in rows})
    (directory / INFO).write_text(info.model_dump_json(indent=1) + "\n", "utf-8")


def read_info(directory: Path) -> RowsInfo:
    """``rows.json``. Raises ValueError naming the file and what is wrong with it."""
    return json_file.read(directory / INFO, TypeAdapter(RowsInfo))


class TokenRows:
    """The rows of a split, [N, S + 1]; indexing by numbers or a slice reads those rows."""

    def __init__(self, directory: Path, split: Split) -> None:
        """Raises ValueError naming the file that is missing or damaged, or a split without a row."""
        self.info = read_info(directory)
        self._files = [IndexedFile(directory / name) for name in self.info.files.get(split, [])]
        self._file, self._document, self._start = (_mapped(directory / f"{split}_{name}.npy") for name in ("file", "document", "start"))
        self.width = self.info.seq_len + 1
        self._rows = int(self._start[-1]) // self.width
        if not self._rows:
            raise ValueError(f"{directory}: the {split} split has no row of {self.width} tokens")

    def __len__(self) -> int:
        return self._rows

    @property
    def seq_len(self) -> int:
        """S."""
        return self.info.seq_len

    def __getitem__(self, rows: slice | Sequence[int] | npt.NDArray[np.int64]) -> Integers:
        """The rows [n, S + 1], in the order asked for."""
        numbers: Iterable[int] = range(*rows.indices(self._rows)) if isinstance(rows, slice) else (int(number) for number in rows)
        taken = [self._row(number) for number in numbers]
        return np.stack(taken) if taken else np.zeros((0, self.width), np.int32)

    def _row(self, number: int) -> Integers:
        """One row of the stream of documents, each with the separator that ends it."""
        if not 0 <= number < self._rows:
            raise IndexError(f"row {number} of {self._rows}")
        begin, end = number * self.width, (number + 1) * self.width
        first = int(np.searchsorted(self._start, begin, "right")) - 1
        parts: list[Integers] = []
        for place in range(first, int(np.searchsorted(self._start, end, "left"))):
            start, stop = int(self._start[place]), int(self._start[place + 1])
            file = self._files[int(self._file[place])]
            parts.append(file.part(int(self._document[place]), max(begin, start) - start, min(end, stop) - start))
        return np.concatenate(parts)


def _mapped(path: Path) -> Integers:
    try:
        found: Integers = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read: {type(error).__name__}") from None
    return found
