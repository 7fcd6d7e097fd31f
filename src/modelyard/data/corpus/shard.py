"""Builds one shard of a streamed corpus: its files in blocks, each block screened in parallel, then looked up among everything kept before.

A block is a stated amount of text; it is what is in memory at once. A finished block is a directory that appears by one rename, so work that is
killed goes on behind its last block, and the result is the same bytes. Of a near-duplicate pair the later document goes. A kept document that is
still similar to an earlier one joins its cluster, and clusters, not documents, are held out; a document similar to both sides goes. The documents of
one work (a play, a module, an article) are one cluster from the start.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.config import Config
from modelyard.data.corpus.counts import add, count
from modelyard.data.corpus.document import KEPT_SCHEMA, REFUSED_SCHEMA, Transform, to_table
from modelyard.data.corpus.splits import new_cluster, split_of
from modelyard.data.filters import duplicates, seen
from modelyard.data.filters.screen import Screen
from modelyard.data.filters.seen import Entry, Seen, Segment, Signatures
from modelyard.data.filters.words import Hashes, Positions
from modelyard.data.sources.stream import Row, Shard, counts_as_broken, id_hash, refuse_broken, rows
from modelyard.progress import Report

_TABLE_ROWS = 1000


class BlocksConfig(Config):
    """How a shard is cut and held out."""

    shard_megabytes: float
    """Files of a source are grouped until a shard has this size."""
    block_megabytes: float
    """Text in memory at once."""
    validation: float
    """Share of document clusters that measures the language-model loss; a source's own ``test`` share comes before it."""
    cluster_similarity: float
    """Estimated similarity from which documents are held out together."""
    seed: int
    """Of the held-out split."""


class _Block(NamedTuple):
    rows: list[Row]
    number: int


class _Held(NamedTuple):
    """What decides about a document's split."""

    blocks: BlocksConfig
    test: float
    """The source's share of benchmarks."""

    def cluster(self, name: int) -> int:
        """A new cluster that begins with ``name``."""
        return new_cluster(name, self.blocks.validation, self.test, self.blocks.seed)


def build(
    shard: Shard,
    earlier: list[Path],
    config: BlocksConfig,
    screen: Screen,
    out: Path,
    checkpoints: Path,
    transform: Transform,
    report: Report,
) -> dict[str, float]:
    """Process a shard into ``out``: ``documents/``, ``rejects/``, ``index/`` and ``counts.json``.

    Args:
        shard: what to read.
        earlier: directories of all earlier shards of the corpus, in order.
        config: blocks and held-out share.
        screen: the filters.
        out: empty directory.
        checkpoints: directory for finished blocks; those in it are not built again.
        transform: runs the screen, inline or on workers.
        report: receives progress in rows.

    Raises:
        DataError: more rows are unreadable than the source allows.
    """
    old = [_Kept(seen.load(directory / "index"), sorted((directory / "documents").iterdir())) for directory in earlier]
    ids: set[int] = set().union(*(np.load(directory / "ids.npy").tolist() for directory in earlier)) if shard.source.id_field else set()
    before = frozenset(ids)
    total = broken = 0
    first = ""
    parts: list[Path] = []
    for block in _blocks(rows(shard, ids), config.block_megabytes):
        total += len(block.rows)
        for row in block.rows:
            if row.broken and counts_as_broken(row.broken.reason):
                broken, first = broken + 1, first or f"{row.place}: {row.broken.detail}"
        part = checkpoints / f"{block.number:05d}"
        if not part.exists():
            partial = checkpoints / f"{block.number:05d}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            kept = [*old, *(_Kept(seen.load(done / "index"), [done / "documents.parquet"]) for done in parts)]
            _process(block, kept, _Held(config, shard.source.test), screen, partial, transform)
            os.replace(partial, part)
        parts.append(part)
        report(total, 0, unit="row")
    refuse_broken(shard, total, broken, first)
    return _finish(parts, np.array(sorted(ids - before), np.uint64), out)


def _blocks(found: Iterator[Row], megabytes: float) -> Iterator[_Block]:
    block: list[Row] = []
    size = number = 0
    for row in found:
        block.append(row)
        size += len(row.document.text)
        if size >= megabytes * 1e6:
            yield _Block(block, number)
            block, size, number = [], 0, number + 1
    if block or number == 0:
        yield _Block(block, number)


def _process(block: _Block, earlier: list[_Kept], held: _Held, screen: Screen, out: Path, transform: Transform) -> None:
    """Screen, look up and write one block."""
    readable = [row for row in block.rows if row.broken is None]
    whole = to_table(row.document for row in readable)
    tables = [whole.slice(start, _TABLE_ROWS) for start in range(0, whole.num_rows, _TABLE_ROWS)]
    screened = pa.concat_tables(transform(tables, screen)) if tables else screen(whole)
    screened = screened.append_column("place", pa.array([row.place for row in readable], pa.string()))
    screened = screened.append_column("votes", pa.array([row.document.votes for row in readable], pa.list_(pa.int8())))
    reasons, details = screened.column("reason").to_pylist(), screened.column("detail").to_pylist()
    kept = _indices(reason is None for reason in reasons)
    chosen = screened.take(kept)
    keys = np.frombuffer(b"".join(chosen.column("key").to_pylist()), np.uint64)[::2]
    permutations = screen.config.duplicates.permutations
    signatures = np.frombuffer(b"".join(chosen.column("signature").to_pylist()), np.uint32).reshape(-1, permutations)
    bands = seen.band_hashes(signatures, screen.config.duplicates.bands)
    lookup = _Lookup(earlier, chosen.column("id").to_pylist(), chosen.column("group").to_pylist(), held, screen.config.duplicates)
    verdicts = lookup.judge(keys, bands, signatures)
    for index, verdict in zip(kept.tolist(), verdicts, strict=True):
        reasons[index], details[index] = verdict.reason, verdict.detail
    stay = _indices(verdict.reason is None for verdict in verdicts)
    clusters = np.array([verdicts[place].cluster for place in stay.tolist()], np.uint64)
    splits = [split_of(cluster) for cluster in clusters.tolist()]
    documents = chosen.take(stay).append_column("split", pa.array(splits, pa.string())).select(KEPT_SCHEMA.names)
    refused = _indices(reason is not None for reason in reasons)
    screened = screened.set_column(screened.schema.get_field_index("reason"), "reason", pa.array(reasons, pa.string()))
    screened = screened.set_column(screened.schema.get_field_index("detail"), "detail", pa.array(details, pa.string()))
    rejects = pa.concat_tables([screened.take(refused).select(REFUSED_SCHEMA.names), _unreadable(block.rows)])
    out.mkdir(parents=True)
    pq.write_table(documents.cast(KEPT_SCHEMA), out / "documents.parquet", compression="zstd")
    pq.write_table(rejects, out / "rejects.parquet", compression="zstd")
    seen.save(seen.segment(keys[stay], bands[stay], signatures[stay], clusters), out / "index")
    (out / "counts.json").write_text(json.dumps(count([row.document.text for row in block.rows], documents, rejects)) + "\n", "utf-8")


def _indices(chosen: Iterable[bool]) -> Positions:
    return np.flatnonzero(np.fromiter(chosen, bool))


class _Kept(NamedTuple):
    """Kept documents of an earlier shard or block: their index, and where their ids stand."""

    segment: Segment
    files: list[Path]


class _Verdict(NamedTuple):
    reason: str | None
    detail: str | None
    cluster: int


class _Lookup:
    """Duplicates and clusters of one block's documents, in order."""

    def __init__(self, earlier: list[_Kept], ids: list[str], groups: list[str], held: _Held, limits: duplicates.DuplicatesConfig) -> None:
        self.seen = Seen([kept.segment for kept in earlier], limits.bands)
        self.earlier, self.ids, self.groups = earlier, ids, groups
        self.names: dict[int, pa.ChunkedArray] = {}
        self.held, self.limits = held, limits
        self.clusters: dict[int, int] = {}

    def judge(self, keys: Hashes, bands: Hashes, signatures: Signatures) -> list[_Verdict]:
        copies, candidates = self.seen.look_up(keys, bands)
        verdicts = []
        met = _shares_a_band(bands)
        for row, (key, band) in enumerate(zip(keys.tolist(), bands.tolist(), strict=True)):
            mine = self.seen.copy(key) if met[row] else None
            if row in copies or mine is not None:
                original = copies[row] if row in copies else Entry(-1, mine or 0)
                verdicts.append(_Verdict("duplicate/exact", self._name(original), 0))
                continue
            near = [*candidates.get(row, []), *(Entry(-1, other) for other in (self.seen.candidates(band) if met[row] else ()))]
            work = self.held.cluster(id_hash(self.groups[row])) if self.groups[row] else None
            verdict = self._near(key, work, near, signatures[row], signatures)
            verdicts.append(verdict)
            if verdict.reason is None:
                if met[row]:
                    self.seen.add(row, key, band)
                self.clusters[row] = verdict.cluster
        return verdicts

    def _near(self, key: int, work: int | None, entries: list[Entry], signature: Signatures, signatures: Signatures) -> _Verdict:
        """Refused when near to an entry, or when entries that it is similar to and the ``work`` that it is a part of are on different sides
        of the held-out splits."""
        if not entries:
            return _Verdict(None, None, self.held.cluster(key) if work is None else work)
        others = np.stack([signatures[e.row] if e.segment < 0 else self.seen.segments[e.segment].signatures[e.row] for e in entries])
        if near := duplicates.nearest(signature, others, self.limits.threshold):
            return _Verdict("duplicate/near", f"{self._name(entries[near.place])} {near.similarity:.2f}", 0)
        similar = np.flatnonzero((others == signature).mean(axis=1) >= self.held.blocks.cluster_similarity).tolist()
        clusters = [*([] if work is None else [work]), *(self._cluster(entries[place]) for place in similar)]
        if len({split_of(cluster) for cluster in clusters}) > 1:
            return _Verdict("duplicate/straddles_held_out", ", ".join(self._name(entries[place]) for place in similar[:4]), 0)
        return _Verdict(None, None, clusters[0] if clusters else self.held.cluster(key))

    def _name(self, entry: Entry) -> str:
        """Id of a kept document."""
        if entry.segment < 0:
            return self.ids[entry.row]
        if entry.segment not in self.names:
            tables = [pq.read_table(file, columns=["id"]) for file in self.earlier[entry.segment].files]
            self.names[entry.segment] = pa.concat_tables(tables).column("id")
        return str(self.names[entry.segment][entry.row].as_py())

    def _cluster(self, entry: Entry) -> int:
        return self.clusters[entry.row] if entry.segment < 0 else int(self.seen.segments[entry.segment].clusters[entry.row])


def _shares_a_band(bands: Hashes) -> npt.NDArray[np.bool_]:
    """Which documents [n] of a block have a hash of ``bands`` [n, bands] in common with another: only they can be like one another, or copies."""
    met = np.zeros(len(bands), bool)
    for band in bands.T:
        _, place, times = np.unique(band, return_inverse=True, return_counts=True)
        met |= times[place] > 1
    return met


def _unreadable(found: list[Row]) -> pa.Table:
    content = [
        {
            "id": r.document.id,
            "source": r.document.source,
            "reason": r.broken.reason,
            "detail": r.broken.detail,
            "text": r.document.text[:2000],
        }
        | {"place": r.place}
        for r in found
        if r.broken
    ]
    return pa.Table.from_pylist(content, schema=REFUSED_SCHEMA)


def _finish(parts: list[Path], ids: Hashes, out: Path) -> dict[str, float]:
    """Move finished blocks to ``out`` and merge their indices."""
    for kind in ("documents", "rejects"):
        (out / kind).mkdir()
        for part in parts:
            shutil.copyfile(part / f"{kind}.parquet", out / kind / f"{part.name}.parquet")
    seen.merge([seen.load(part / "index") for part in parts], out / "index")
    np.save(out / "ids.npy", ids)
    counts = add([json.loads((part / "counts.json").read_text("utf-8")) for part in parts])
    (out / "counts.json").write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", "utf-8")
    return {
        "shard/read/documents": counts["read"]["documents"],
        "shard/kept/documents": counts["kept"]["documents"],
        "shard/kept/bytes": counts["kept"]["bytes"],
    }
