"""In which order documents are packed: those of the training files as the mixture asks for them, those held out once each.

An order names documents by file and place, so a document is stored once however often it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np

from modelyard.data.corpus.document import DataError, Kind
from modelyard.data.tokens import packing
from modelyard.data.tokens.packing import Planned, Share
from modelyard.formats.indexed import Integers
from modelyard.formats.token_rows import Order, Split


class TokenFile(NamedTuple):
    """A written pair of files, which holds the documents of one source in one split."""

    prefix: str
    split: Split
    source: str
    kind: str
    lengths: Integers
    """[documents] tokens, the separator included."""


def mixed(
    files: Sequence[TokenFile], mixture: Mapping[str, Share], budget: int, temperature: float | None, seed: int
) -> tuple[Order, dict[str, Planned]]:
    """The training documents as the mixture has them, all shuffled together, and what each of its entries contributes.

    Args:
        files: the token files of every split.
        mixture: source or kind -> weight and epochs cap.
        budget: tokens of the training rows.
        temperature: as :func:`modelyard.data.tokens.packing.plan` takes it.
        seed: of the shuffles.

    Raises:
        DataError: a source of the mixture has no training document.
    """
    files = [file for file in files if file.split == "train"]
    entries = [packing.entry_of(file.source, file.kind, mixture) for file in files]
    if unknown := sorted(set(mixture) - {entry for entry in entries if entry} - set(get_args(Kind))):
        raise DataError(f"tokens.mixture: no training document of source {unknown[0]}")
    available: dict[str, int] = {}
    for file, entry in zip(files, entries, strict=True):
        if entry:
            available[entry] = available.get(entry, 0) + int(file.lengths.sum())
    planned = packing.plan(available, mixture, budget, temperature)
    generator = np.random.default_rng(seed)
    parts = []
    for entry, (tokens, _) in planned.items():
        pool = _pooled([(number, file) for number, file in enumerate(files) if entries[number] == entry])
        parts.append(_taken(pool, packing.select(pool.lengths, tokens, generator)))
    whole = _joined(parts)
    return _taken(whole, generator.permutation(len(whole.lengths))), planned


def held_out(files: Sequence[TokenFile], seed: int) -> Order:
    """Every validation document once, in an order of their own, so that the first rows are a sample of all."""
    whole = _pooled(list(enumerate(file for file in files if file.split == "validation")))
    return _taken(whole, np.random.default_rng([seed, 1]).permutation(len(whole.lengths)))


def _pooled(files: list[tuple[int, TokenFile]]) -> Order:
    """All documents of some files, one after another."""
    return _joined(
        [
            Order(
                files=np.full(len(file.lengths), number, np.uint16),
                documents=np.arange(len(file.lengths), dtype=np.int64),
                lengths=file.lengths.astype(np.int64),
            )
            for number, file in files
        ]
    )


def _joined(parts: list[Order]) -> Order:
    nothing = Order(files=np.zeros(0, np.uint16), documents=np.zeros(0, np.int64), lengths=np.zeros(0, np.int64))
    return Order(**{key: np.concatenate([getattr(part, key) for part in [nothing, *parts]]) for key in Order._fields})


def _taken(order: Order, chosen: Integers) -> Order:
    return Order(**{key: getattr(order, key)[chosen] for key in Order._fields})
