"""One part of the index of a corpus's kept documents: the exact keys and LSH bands of one range of hashes, and the signatures of every so-manieth
document (MinHash-LSH: Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4).

Hashes decide where a look-up goes (bands are its keys) and a document's number where its signature lies, so parts need nothing of one another and
their answers together are the same however many there are. Runs of sorted hashes are merged eight at a time, as in a log-structured merge tree, so
a look-up in N shards searches 7 log8(N) runs. Left out: merging signatures, which are found by number.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.data.filters.seen import Kept, Segment, Signatures, load
from modelyard.data.filters.sorted_runs import TIER, Pairs, Query, Run, Sorted, joined, links, matches, merged, ordered, stored
from modelyard.data.filters.words import Hashes, Positions

_PAIRS = 65_536
"""Pairs whose signatures are compared at once."""
Owners = npt.NDArray[np.intp]


def owners(hashes: Hashes, parts: int) -> Owners:
    """The part in whose range each hash lies."""
    return np.searchsorted(_edges(parts), hashes, "right") - 1


def _edges(parts: int) -> Hashes:
    return np.array([(number << 64) // parts for number in range(parts)], np.uint64)


class Rows(NamedTuple):
    """Signatures and clusters of the documents ``first``, ``first + step``, ..."""

    first: int
    step: int
    signatures: Signatures
    clusters: Hashes


class Slice(NamedTuple):
    """What a part holds of one segment."""

    kept: Kept
    columns: list[Sorted]
    """The exact key's and each band's."""
    rows: Rows


def cut(kept: Kept, part: int, parts: int) -> Slice:
    """What ``part`` of ``parts`` holds of a segment: views of its memory maps."""
    segment = load(kept.directory)
    first = kept.first + (part - kept.first) % parts
    mine = np.s_[first - kept.first :: parts]
    columns = [_within(one, part, parts) for one in _columns(segment)]
    return Slice(kept, columns, Rows(first, parts, segment.signatures[mine], segment.clusters[mine]))


def _columns(segment: Segment) -> list[Sorted]:
    bands = zip(segment.bands, segment.band_rows, strict=True)
    return [Sorted(segment.exact, segment.exact_rows), *(Sorted(hashes, rows) for hashes, rows in bands)]


def _within(column: Sorted, part: int, parts: int) -> Sorted:
    edges = _edges(parts)[part : part + 2]
    low, *end = np.searchsorted(column.hashes, edges, "left").tolist()
    high = end[0] if end else len(column.hashes)
    return Sorted(column.hashes[low:high], column.rows[low:high])


def on_disk(piece: Slice) -> Slice:
    """A slice that came from another machine, in files that end with this process."""
    columns = [Sorted(stored(column.hashes), stored(column.rows)) for column in piece.columns]
    rows = piece.rows._replace(signatures=stored(piece.rows.signatures), clusters=stored(piece.rows.clusters))
    return Slice(piece.kept, columns, rows)


class Met(NamedTuple):
    """The answer of one part."""

    copies: Pairs
    """Kept documents of the same exact key, by number."""
    candidates: Pairs
    """Kept documents that share a band, by number; a pair may stand in it several times."""
    links: Pairs
    """Documents of the work at hand that share a key or band, each with the first one of them."""


class Similar(NamedTuple):
    """Kept documents that resemble some of the work at hand."""

    documents: Positions
    numbers: Positions
    similarities: npt.NDArray[np.float64]
    """Estimated Jaccard similarity."""
    clusters: Hashes

    def at(self, where: slice | Positions | npt.NDArray[np.bool_]) -> Similar:
        """Some of them."""
        return Similar(self.documents[where], self.numbers[where], self.similarities[where], self.clusters[where])


def all_similar(every: Sequence[Similar]) -> Similar:
    """Several answers as one, by document and then by number."""
    documents, numbers = (np.concatenate([getattr(one, name) for one in every]) for name in ("documents", "numbers"))
    similarities, clusters = np.concatenate([one.similarities for one in every]), np.concatenate([one.clusters for one in every])
    return Similar(documents, numbers, similarities, clusters).at(np.lexsort((numbers, documents)))


class Partition:
    """One part of the index."""

    def __init__(self, number: int, count: int) -> None:
        self.number, self.count = number, count
        self.end = 0
        self._runs: list[Run] = []
        self._rows: list[Rows] = []
        self._firsts: list[int] = []

    def hold(self, kept: Sequence[Kept]) -> None:
        """Add the segments of ``kept`` that it does not hold."""
        for one in beyond(kept, self.end):
            self.add(cut(one, self.number, self.count))

    def add(self, piece: Slice) -> None:
        """Add a slice of the segment that follows."""
        assert piece.kept.first == self.end, "a segment is missing"
        self.end = piece.kept.end
        self._rows.append(piece.rows)
        self._firsts.append(piece.kept.first)
        self._runs.append(Run(piece.kept.first, 0, piece.columns))
        while len(self._runs) >= TIER and len({run.level for run in self._runs[-TIER:]}) == 1:
            self._runs[-TIER:] = [merged(self._runs[-TIER:])]

    def look_up(self, queries: list[Query]) -> Met:
        """Kept documents that share a hash with the documents of ``queries`` (one a column), and documents that share one among themselves."""
        queries = [ordered(query) for query in queries]
        found = [[matches(run.columns[column], run.first, query) for run in self._runs] for column, query in enumerate(queries)]
        candidates = [pairs for column in found[1:] for pairs in column]
        return Met(joined(found[0]), joined(candidates), joined([links(query) for query in queries]))

    def similar(self, pairs: Pairs, signatures: Signatures, least: float) -> Similar:
        """The pairs of documents and numbers, all of this part, whose signatures agree in at least a share ``least``.

        Args:
            pairs: ``documents`` are rows of ``signatures``.
            signatures: uint32 [documents, permutations].
            least: from 0 to 1.
        """
        agree = np.zeros(pairs.others.size)
        clusters = np.zeros(pairs.others.size, np.uint64)
        for low in range(0, agree.size, _PAIRS):
            some = np.s_[low : low + _PAIRS]
            theirs, clusters[some] = self._at(pairs.others[some])
            agree[some] = (theirs == signatures[pairs.documents[some]]).mean(axis=1)
        near = agree >= least
        return Similar(pairs.documents[near], pairs.others[near], agree[near], clusters[near])

    def _at(self, numbers: Positions) -> tuple[Signatures, Hashes]:
        """Signatures and clusters of kept documents."""
        where = np.searchsorted(self._firsts, numbers, "right") - 1
        signatures = np.zeros((numbers.size, self._rows[0].signatures.shape[1]), np.uint32)
        clusters = np.zeros(numbers.size, np.uint64)
        for one in np.unique(where).tolist():
            mine, rows = where == one, self._rows[one]
            places = (numbers[mine] - rows.first) // rows.step
            signatures[mine], clusters[mine] = rows.signatures[places], rows.clusters[places]
        return signatures, clusters


def beyond(kept: Sequence[Kept], end: int) -> list[Kept]:
    """The segments from document ``end`` on. Blocks that have become one shard keep their numbers, so what is held of them stays."""
    new = [one for one in kept[bisect.bisect_left(kept, end, key=lambda one: one.first) :] if one.documents]
    assert (new[0].first if new else kept[-1].end if kept else 0) == end, "half a segment is held"
    return new
