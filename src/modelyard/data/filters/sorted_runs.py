"""Runs of sorted hashes with the documents that they are of: what is looked up in them, and their merging as in a log-structured merge tree.

Hashes decide, not documents, so a run is searched once for all queries in ascending order, and merging is a sort. Left out: deletion; what is kept
stays.
"""

from __future__ import annotations

import tempfile
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from modelyard.data.filters.words import Hashes, Positions

TIER = 8
"""Runs of one size that are merged into one of the next."""
_Kind = TypeVar("_Kind", bound=np.generic)


class Sorted(NamedTuple):
    """Hashes of one column (the exact key, or a band) in ascending order."""

    hashes: Hashes
    rows: npt.NDArray[np.integer[Any]]
    """Of each hash's document, counted from the first one of its run."""


class Run(NamedTuple):
    """Sorted hashes of consecutive segments."""

    first: int
    """Number of the first document."""
    level: int
    """Times that it was merged."""
    columns: list[Sorted]


class Query(NamedTuple):
    """What is looked up in one column of a part."""

    documents: Positions
    """Of the work at hand, ascending."""
    hashes: Hashes


class Pairs(NamedTuple):
    """Documents of the work at hand and others that share a hash with them."""

    documents: Positions
    others: Positions


def stored(values: npt.NDArray[_Kind]) -> npt.NDArray[_Kind]:
    """The array, memory-mapped from a file without a name below ``TMPDIR``, which ends with this process. Raises OSError where it has no room."""
    if not values.size:
        return values.copy()
    with tempfile.TemporaryFile() as file:
        np.ascontiguousarray(values).tofile(file)
        file.flush()
        return np.memmap(file, values.dtype, "r", shape=values.shape)


def merged(runs: list[Run]) -> Run:
    """Several runs as one."""
    first = runs[0].first
    columns = []
    for parts in zip(*(run.columns for run in runs), strict=True):
        hashes = np.concatenate([part.hashes for part in parts])
        rows = np.concatenate([part.rows + np.int64(run.first - first) for part, run in zip(parts, runs, strict=True)])
        order = np.argsort(hashes, kind="stable")
        columns.append(Sorted(stored(hashes[order]), stored(rows[order])))
    return Run(first, runs[0].level + 1, columns)


def none() -> Pairs:
    """No pairs."""
    return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))


def joined(every: list[Pairs]) -> Pairs:
    """Pairs of several lists; none of no lists."""
    every = every or [none()]
    return Pairs(*(np.concatenate(column) for column in zip(*every, strict=True)))


def ordered(query: Query) -> Query:
    """The query by hash and then by document, so that a search goes through a run once."""
    order = np.argsort(query.hashes, kind="stable")
    return Query(query.documents[order], query.hashes[order])


def matches(column: Sorted, first: int, query: Query) -> Pairs:
    """Every document of ``query`` with every kept one of equal hash."""
    low = np.searchsorted(column.hashes, query.hashes, "left")
    hit = np.flatnonzero(low < len(column.hashes))
    hit = hit[column.hashes[low[hit]] == query.hashes[hit]]
    if not hit.size:
        return none()
    low = low[hit]
    counts = np.searchsorted(column.hashes, query.hashes[hit], "right") - low
    place = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    return Pairs(np.repeat(query.documents[hit], counts), column.rows[place].astype(np.int64) + first)


def links(query: Query) -> Pairs:
    """Documents with equal hashes, each with the first of them; ``query`` is in the order of hashes and then of documents."""
    if not query.hashes.size:
        return none()
    new = np.concatenate([[True], query.hashes[1:] != query.hashes[:-1]])
    firsts = query.documents[np.flatnonzero(new)[np.cumsum(new) - 1]]
    return Pairs(query.documents[~new], firsts[~new])
