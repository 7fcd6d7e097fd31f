"""Which documents of a block are copies, of what, and which cluster the others belong to; over any number of partitions of the index.

Three exchanges, each a call of every partition at the same time. Exact keys and bands go to the partition of their hash, which answers with kept
documents that share them and with documents of the block that meet. Pairs go to the partition that has the kept document's signature, which
answers with those similar enough to matter. What meets in the block, directly or by way of others, is one component, and components are judged in
document order, each by one partition: of a pair the later document goes. A verdict depends on the documents before it alone, so neither blocks nor
partitions change one, and one partition in this process is the case of a single machine. Left out: splitting a component over partitions.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.data.corpus.partitions import Partitions
from modelyard.data.corpus.splits import HeldOut, split_of
from modelyard.data.filters import duplicates
from modelyard.data.filters.partition import Owners, Partition, Similar, all_similar, owners
from modelyard.data.filters.seen import Seen, Signatures
from modelyard.data.filters.sorted_runs import Pairs, Query
from modelyard.data.filters.words import Hashes, Positions

Reason = Literal["duplicate/exact", "duplicate/near", "duplicate/straddles_held_out"]


class Rules(NamedTuple):
    """What makes documents copies or keeps them on one side of the held-out split."""

    limits: duplicates.DuplicatesConfig
    cluster_similarity: float
    held: HeldOut


class Arrivals(NamedTuple):
    """Documents of a block, in order."""

    keys: Hashes
    """[n] of their exact texts."""
    bands: Hashes
    """[n, bands]."""
    signatures: Signatures
    """[n, permutations]."""
    works: list[int | None]
    """[n] hashed name of the work each is a part of; None stands alone."""


class Verdict(NamedTuple):
    """What becomes of a document."""

    reason: Reason | None
    """None: it stays."""
    originals: list[int]
    """Numbers of the kept documents that speak against it; ``~row`` is one of the block."""
    similarity: float
    """With the one it is a near copy of."""
    cluster: int


def judge(arrivals: Arrivals, partitions: Partitions, rules: Rules) -> list[Verdict]:
    """The verdict on each document, in order, given what ``partitions`` hold."""
    count, n = partitions.count, len(arrivals.keys)
    met = partitions.each(Partition.look_up, [(query,) for query in _queries(arrivals, count)])
    copies = np.full(n, -1, np.int64)
    for answer in met:
        copies[answer.copies.documents] = answer.copies.others
    similar = _similar(_distinct([answer.candidates for answer in met]), arrivals.signatures, partitions, rules)
    links = Pairs(*(np.concatenate([getattr(answer.links, name) for answer in met]) for name in Pairs._fields))
    mine = _components(links, n, count)
    groups = [np.flatnonzero(mine == part) for part in range(count)]
    judged = partitions.each(_resolve, [(_group(group, arrivals, copies, similar, links), rules) for group in groups])
    verdicts: list[Verdict | None] = [None] * n
    for group, found in zip(groups, judged, strict=True):
        for row, verdict in zip(group.tolist(), found, strict=True):
            verdicts[row] = verdict
    return [verdict for verdict in verdicts if verdict is not None]


def _queries(arrivals: Arrivals, count: int) -> list[list[Query]]:
    """What each partition is asked: a query for the exact key and one for each band."""
    columns = [arrivals.keys, *(np.ascontiguousarray(band) for band in arrivals.bands.T)]
    every = np.arange(len(arrivals.keys))
    if count == 1:
        return [[Query(every, column) for column in columns]]
    places = [owners(column, count) for column in columns]
    return [
        [Query(every[place == part], column[place == part]) for place, column in zip(places, columns, strict=True)] for part in range(count)
    ]


def _distinct(every: list[Pairs]) -> Pairs:
    """Each pair once, by document and then by number."""
    documents, others = (np.concatenate(column) for column in zip(*every, strict=True))
    order = np.lexsort((others, documents))
    documents, others = documents[order], others[order]
    new = np.ones(documents.size, bool)
    new[1:] = (documents[1:] != documents[:-1]) | (others[1:] != others[:-1])
    return Pairs(documents[new], others[new])


def _similar(pairs: Pairs, signatures: Signatures, partitions: Partitions, rules: Rules) -> Similar:
    """The pairs whose similarity matters, by document and then by number."""
    least = min(rules.limits.threshold, rules.cluster_similarity)
    asked = []
    for part in range(partitions.count):
        mine = pairs.others % partitions.count == part
        documents, rows = np.unique(pairs.documents[mine], return_inverse=True)
        asked.append((Pairs(rows.reshape(-1), pairs.others[mine]), signatures[documents], least, documents))
    return all_similar(partitions.each(_similar_in, asked))


def _similar_in(partition: Partition, pairs: Pairs, signatures: Signatures, least: float, documents: Positions) -> Similar:
    found = partition.similar(pairs, signatures, least)
    return found._replace(documents=documents[found.documents])


def _components(links: Pairs, n: int, count: int) -> Owners:
    """The partition that judges each document: one for all that meet."""
    if count == 1:
        return np.zeros(n, np.intp)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(links.documents.size, bool), (links.documents, links.others)), shape=(n, n))
    return connected_components(edges, directed=False)[1].astype(np.intp) % count


class _Group(NamedTuple):
    """Documents that one partition judges, in order."""

    rows: list[int]
    """[n] in the block."""
    keys: list[int]
    works: list[int | None]
    copies: list[int]
    """[n] number of a kept document of the same text, or -1."""
    similar: Similar
    """Kept documents; ``documents`` are places in this group, ascending."""
    met: npt.NDArray[np.int64]
    """[n] row in ``bands`` and ``signatures``, -1 for a document that meets no other of the block."""
    bands: Hashes
    signatures: Signatures


def _group(group: Owners, arrivals: Arrivals, copies: Positions, similar: Similar, links: Pairs) -> _Group:
    meets = np.zeros(len(copies), bool)
    meets[links.documents] = meets[links.others] = True
    met = np.where(meets[group], np.cumsum(meets[group]) - 1, -1)
    place = np.full(len(copies), -1, np.int64)
    place[group] = np.arange(group.size)
    mine = similar.at(place[similar.documents] >= 0)
    chosen = group[meets[group]]
    return _Group(
        group.tolist(),
        arrivals.keys[group].tolist(),
        [arrivals.works[row] for row in group.tolist()],
        copies[group].tolist(),
        mine._replace(documents=place[mine.documents]),
        met,
        arrivals.bands[chosen],
        arrivals.signatures[chosen],
    )


def _resolve(_: Partition, group: _Group, rules: Rules) -> list[Verdict]:
    """Judge documents in order; those kept are looked up by the later ones that meet them."""
    seen = Seen(rules.limits.bands)
    clusters: dict[int, int] = {}
    bands, bounds = group.bands.tolist(), np.searchsorted(group.similar.documents, np.arange(len(group.rows) + 1)).tolist()
    verdicts = []
    for place, (key, work, copy, met) in enumerate(zip(group.keys, group.works, group.copies, group.met.tolist(), strict=True)):
        mine = seen.copy(key) if met >= 0 else None
        if copy >= 0 or mine is not None:
            verdicts.append(Verdict("duplicate/exact", [copy if mine is None or copy >= 0 else ~group.rows[mine]], 1.0, 0))
            continue
        old, others = slice(bounds[place], bounds[place + 1]), [] if met < 0 else seen.candidates(bands[met])
        if others or old.start < old.stop:
            verdict = _near(key, None if work is None else rules.held.cluster(work), _around(group, place, old, others, clusters), rules)
        else:
            verdict = Verdict(None, [], 0.0, rules.held.cluster(key if work is None else work))
        verdicts.append(verdict)
        if verdict.reason is None:
            if met >= 0:
                seen.add(place, key, bands[met])
            clusters[place] = verdict.cluster
    return verdicts


class _Near(NamedTuple):
    """Kept documents that share a band with one, in order."""

    originals: list[int]
    similarities: npt.NDArray[np.float64]
    clusters: list[int]


def _around(group: _Group, place: int, old: slice, others: list[int], clusters: dict[int, int]) -> _Near:
    """The kept documents that share a band with the one at ``place``: ``old`` ones among those similar, and ``others`` of the group."""
    before, met = group.similar.at(old), group.met[place]
    agree = (group.signatures[group.met[others]] == group.signatures[met]).mean(axis=1) if others else np.zeros(0)
    return _Near(
        [*before.numbers.tolist(), *(~group.rows[other] for other in others)],
        np.concatenate([before.similarities, agree]),
        [*before.clusters.tolist(), *(clusters[other] for other in others)],
    )


def _near(key: int, work: int | None, near: _Near, rules: Rules) -> Verdict:
    """Refused when near to one, or when those that it is similar to and the ``work`` that it is a part of are on different sides of the split."""
    best = duplicates.nearest(near.similarities, rules.limits.threshold)
    if best is not None:
        return Verdict("duplicate/near", [near.originals[best]], float(near.similarities[best]), 0)
    similar = np.flatnonzero(near.similarities >= rules.cluster_similarity).tolist()
    clusters = [*([] if work is None else [work]), *(near.clusters[place] for place in similar)]
    if len({split_of(cluster) for cluster in clusters}) > 1:
        return Verdict("duplicate/straddles_held_out", [near.originals[place] for place in similar[:4]], 0.0, 0)
    return Verdict(None, [], 0.0, clusters[0] if clusters else rules.held.cluster(key))
