"""Packed rows of a ``tokens`` artifact: what every stage reads that trains or measures on text.

Documents are packed into rows of ``seq_len + 1`` tokens (Brown et al. 2020, appendix B: separated by end-of-text, no padding). Rows are not stored:
the token files hold each document once, ``{split}_file.npy`` and ``{split}_document.npy`` say in which order documents follow each other (as
often as the mixture repeats them), ``{split}_start.npy`` where each begins in the stream that is cut into rows. All are memory-mapped, so a
rank reads the rows of its batches and nothing else, of a vocabulary of any size. A row is a function of its number alone.

By choice (:attr:`RowsInfo.document_masks`) the documents of a row are kept apart: rows come with the number of each token's document, from the
files' own boundaries and not from tokens that a text may spell, and whoever reads them attends within a document and counts positions from its
beginning (Llama 3, arXiv:2407.21783, section 3.2). The tokens are the same either way, and every token but a row's first has a loss either way.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
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
DocumentMasks = Literal["at_end", "after_end"]
"""Where a document begins that sees itself alone.

``at_end``: with the separator of the document before, as a text is opened where the tokenizer has no BOS of its own; the separator then predicts
the document's first token. ``after_end``: behind it, with the BOS that is the document's first token; the separator then predicts that BOS.
"""


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
    document_masks: DocumentMasks | None = None
    """Whether and where the documents of a row are kept apart; None: a token sees all of the row before it."""


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Packed rows in memory; a slice or numbers of rows give some of them."""

    tokens: Integers
    """[N, S + 1] token ids."""
    documents: Integers | None = None
    """[N, S + 1] the number in its row of each token's document, never falling; None: a token sees all of the row before it."""

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Any) -> PackedRows:
        return PackedRows(self.tokens[rows], None if self.documents is None else self.documents[rows])

    def cut(self, width: int) -> PackedRows:
        """The first ``width`` tokens of every row."""
        return self[:, :width]

    def before(self, position: int) -> list[list[int]]:
        """What is seen of each row to predict its token at ``position`` (1 or more), at least one token."""
        lines = self.tokens[:, :position]
        if self.documents is None:
            return [line.tolist() for line in lines]
        return [line[own == own[-1]].tolist() for line, own in zip(lines, self.documents[:, :position], strict=True)]


class Rows(Protocol):
    """Packed rows, N of them, of a tokens artifact (:class:`TokenRows`) or in memory (:class:`PackedRows`)."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: Any, /) -> PackedRows:
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


def write_documents(
    directory: Path,
    documents: Mapping[Split, Sequence[Integers]],
    seq_len: int,
    vocabulary: int,
    separator: int,
    document_masks: DocumentMasks | None = None,
) -> None:
    """Write documents, [tokens] each with the separator that ends it, as the rows of their split: each once, in this order."""
    for split, texts in documents.items():
        with IndexedWriter(directory / split, vocabulary) as writer:
            for text in texts:
                writer.add(text)
        numbers = np.arange(len(texts), dtype=np.int64)
        write_order(directory, split, Order(np.zeros(len(texts), np.uint16), numbers, writer.lengths.astype(np.int64)))
    files: dict[Split, list[str]] = {split: [split] for split in documents}
    info = RowsInfo(seq_len=seq_len, separator=separator, vocabulary=vocabulary, files=files, document_masks=document_masks)
    (directory / INFO).write_text(info.model_dump_json(indent=1) + "\n", "utf-8")


def write_rows(directory: Path, rows: Mapping[Split, Integers], vocabulary: int, separator: int) -> None:
    """Write rows [N, S + 1] that are packed already, as one document each split."""
    width = next(iter(rows.values())).shape[1]
    write_documents(directory, {split: [packed.reshape(-1)] for split, packed in rows.items()}, width - 1, vocabulary, separator)


def read_by(*splits: Split) -> Callable[[Collection[str], Callable[[str], bytes]], list[str]]:
    """The choice (:mod:`modelyard.store.selection`) of who reads rows of ``splits``: of the token files those that a row holds a document of.

    Everything else comes whole: the tokenizer, and the orders, a few bytes for each document. Every rank needs the same token files, since documents
    are shuffled over all rows; what a source without an entry in the mixture has is read by none.
    """

    def choice(names: Collection[str], read: Callable[[str], bytes]) -> list[str]:
        info = RowsInfo.model_validate_json(read(INFO))
        used = {
            info.files[split][number]
            for split in splits
            if info.files.get(split)
            for number in np.unique(np.load(io.BytesIO(read(f"{split}_file.npy")))).tolist()
        }
        parts = (".bin", ".idx")
        unread = {f"{prefix}{part}" for prefixes in info.files.values() for prefix in set(prefixes) - used for part in parts}
        return sorted(set(names) - unread)

    return choice


def read_info(directory: Path) -> RowsInfo:
    """``rows.json``. Raises ValueError naming the file and what is wrong with it."""
    return json_file.read(directory / INFO, TypeAdapter(RowsInfo))


class TokenRows:
    """The rows of a split; indexing by numbers or a slice reads those rows."""

    def __init__(self, directory: Path, split: Split) -> None:
        """Raises ValueError naming the file that is missing or damaged, or a split without a row; a token file that is not there is missed by
        the first row that holds a document of it, since no other needs it (:func:`read_by`)."""
        self.info = read_info(directory)
        self._prefixes = [directory / name for name in self.info.files.get(split, [])]
        self._files = {number: IndexedFile(path) for number, path in enumerate(self._prefixes) if Path(f"{path}.idx").exists()}
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

    def __getitem__(self, rows: slice | Sequence[int] | npt.NDArray[np.int64]) -> PackedRows:
        """The rows, in the order asked for."""
        numbers = list(range(*rows.indices(self._rows))) if isinstance(rows, slice) else [int(number) for number in rows]
        if wrong := [number for number in numbers if not 0 <= number < self._rows]:
            raise IndexError(f"row {wrong[0]} of {self._rows}")
        return PackedRows(
            self._stacked(self._tokens, numbers), self._stacked(self._documents, numbers) if self.info.document_masks else None
        )

    def _stacked(self, read: Callable[[int], Integers], numbers: Sequence[int]) -> Integers:
        return np.stack([read(number) for number in numbers]) if numbers else np.zeros((0, self.width), np.int32)

    def _places(self, number: int) -> range:
        """Which documents of the order reach into a row."""
        first = int(np.searchsorted(self._start, number * self.width, "right")) - 1
        return range(first, int(np.searchsorted(self._start, (number + 1) * self.width, "left")))

    def _tokens(self, number: int) -> Integers:
        """One row of the stream of documents, each with the separator that ends it."""
        begin, end = number * self.width, (number + 1) * self.width
        parts: list[Integers] = []
        for place in self._places(number):
            start, stop = int(self._start[place]), int(self._start[place + 1])
            source = int(self._file[place])
            file = self._files[source] if source in self._files else IndexedFile(self._prefixes[source])
            parts.append(file.part(int(self._document[place]), max(begin, start) - start, min(end, stop) - start))
        return np.concatenate(parts)

    def _documents(self, number: int) -> Integers:
        """The document of each token of a row, counted from the one that reaches into it; a separator is the next one's where it opens it."""
        places = self._places(number)
        ends = self._start[places.start + 1 : places.stop + 1]
        tokens = np.arange(number * self.width, (number + 1) * self.width)
        return np.searchsorted(ends, tokens + (self.info.document_masks == "at_end"), "right")


def _mapped(path: Path) -> Integers:
    try:
        found: Integers = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read: {type(error).__name__}") from None
    return found
