"""Builds one shard of a streamed corpus: its files in blocks, each block screened in parallel, then looked up among everything kept before
(:mod:`modelyard.data.corpus.deduplicate`).

A block is a stated amount of text; it is what is in memory at once. A finished block is a directory that appears by one rename, so work that is
killed goes on behind its last block, and the result is the same bytes. Of a near-duplicate pair the later document goes. A kept document that is
still similar to an earlier one joins its cluster, and clusters, not documents, are held out; a document similar to both sides goes. The documents of
one work (a play, a module, an article) are one cluster from the start.
"""

from __future__ import annotations

import bisect
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.config import Config
from modelyard.data.corpus.counts import add, count
from modelyard.data.corpus.deduplicate import Arrivals, Rules, Verdict, judge
from modelyard.data.corpus.document import KEPT_SCHEMA, REFUSED_SCHEMA, Transform, to_table
from modelyard.data.corpus.partitions import Partitions
from modelyard.data.corpus.splits import HeldOut, split_of
from modelyard.data.filters import seen
from modelyard.data.filters.screen import Screen
from modelyard.data.filters.seen import Kept
from modelyard.data.filters.words import Hashes, Positions
from modelyard.data.sources.row_ids import id_hash
from modelyard.data.sources.stream import Row, Shard, counts_as_broken, refuse_broken, rows
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


class Block(NamedTuple):
    """Rows that are in memory together."""

    rows: list[Row]
    number: int


def build(
    shard: Shard,
    earlier: list[Path],
    config: BlocksConfig,
    screen: Screen,
    out: Path,
    checkpoints: Path,
    transform: Transform,
    partitions: Partitions,
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
        partitions: the index, which holds nothing but what is of this corpus.
        report: receives progress in rows.

    Raises:
        DataError: more rows are unreadable than the source allows.
    """
    held = HeldOut(config.validation, shard.source.test, config.seed)
    rules = Rules(screen.config.duplicates, config.cluster_similarity, held)
    kept: list[Kept] = []
    for directory in earlier:
        kept.append(seen.following(kept, directory / "index"))
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
            partitions.hold(kept)
            process(block, kept, rules, screen, partial, transform, partitions)
            os.replace(partial, part)
        parts.append(part)
        kept.append(seen.following(kept, part / "index"))
        report(total, 0, unit="row")
    refuse_broken(shard, total, broken, first)
    partitions.hold(kept)  # before the blocks become one
    return finish(parts, np.array(sorted(ids - before), np.uint64), out)


def _blocks(found: Iterator[Row], megabytes: float) -> Iterator[Block]:
    block: list[Row] = []
    size = number = 0
    for row in found:
        block.append(row)
        size += len(row.document.text)
        if size >= megabytes * 1e6:
            yield Block(block, number)
            block, size, number = [], 0, number + 1
    if block or number == 0:
        yield Block(block, number)


def process(
    block: Block, earlier: list[Kept], rules: Rules, screen: Screen, out: Path, transform: Transform, partitions: Partitions
) -> None:
    """Screen, look up and write one block."""
    screened = _screened(block.rows, screen, transform)
    kept = _indices(reason is None for reason in screened.column("reason").to_pylist())
    chosen = screened.take(kept)
    found = _arrivals(chosen, rules)
    verdicts = judge(found, partitions, rules)
    names = _names(verdicts, chosen.column("id").to_pylist(), earlier)
    _write(block.rows, screened, kept, found, [_Outcome(v, name) for v, name in zip(verdicts, names, strict=True)], out)


def _screened(found: list[Row], screen: Screen, transform: Transform) -> pa.Table:
    """What the screen says of the rows that could be read, with their places and votes."""
    readable = [row for row in found if row.broken is None]
    whole = to_table(row.document for row in readable)
    tables = [whole.slice(start, _TABLE_ROWS) for start in range(0, whole.num_rows, _TABLE_ROWS)]
    screened = pa.concat_tables(transform(tables, screen)) if tables else screen(whole)
    screened = screened.append_column("place", pa.array([row.place for row in readable], pa.string()))
    return screened.append_column("votes", pa.array([row.document.votes for row in readable], pa.list_(pa.int8())))


def _arrivals(chosen: pa.Table, rules: Rules) -> Arrivals:
    """What is looked up of the screened documents that nothing speaks against."""
    keys = np.frombuffer(b"".join(chosen.column("key").to_pylist()), np.uint64)[::2]
    signatures = np.frombuffer(b"".join(chosen.column("signature").to_pylist()), np.uint32).reshape(-1, rules.limits.permutations)
    works = [id_hash(group) if group else None for group in chosen.column("group").to_pylist()]
    return Arrivals(keys, seen.band_hashes(signatures, rules.limits.bands), signatures, works)


class _Outcome(NamedTuple):
    verdict: Verdict
    detail: str | None


def _names(verdicts: list[Verdict], ids: list[str], earlier: list[Kept]) -> list[str | None]:
    """The detail of each verdict: the documents that speak against the one, by id."""
    firsts, opened = [kept.first for kept in earlier], dict[int, pa.ChunkedArray]()

    def name(number: int) -> str:
        if number < 0:
            return ids[~number]
        place = bisect.bisect_right(firsts, number) - 1
        if place not in opened:
            opened[place] = seen.load_ids(earlier[place].directory)
        return str(opened[place][number - firsts[place]].as_py())

    near = {"duplicate/near": " {:.2f}"}
    return [
        None if verdict.reason is None
        else ", ".join(map(name, verdict.originals)) + near.get(verdict.reason, "").format(verdict.similarity)
        for verdict in verdicts
    ]  # fmt: skip


def _write(found: list[Row], screened: pa.Table, kept: Positions, arrived: Arrivals, outcomes: list[_Outcome], out: Path) -> None:
    """Write a block: documents that stay, rejects with reasons, the index and the counts."""
    reasons, details = screened.column("reason").to_pylist(), screened.column("detail").to_pylist()
    for index, (verdict, detail) in zip(kept.tolist(), outcomes, strict=True):
        reasons[index], details[index] = verdict.reason, detail
    stay = _indices(outcome.verdict.reason is None for outcome in outcomes)
    clusters = np.array([outcomes[place].verdict.cluster for place in stay.tolist()], np.uint64)
    splits = [split_of(cluster) for cluster in clusters.tolist()]
    documents = screened.take(kept[stay]).append_column("split", pa.array(splits, pa.string())).select(KEPT_SCHEMA.names)
    refused = _indices(reason is not None for reason in reasons)
    for name, values in (("reason", reasons), ("detail", details)):
        screened = screened.set_column(screened.schema.get_field_index(name), name, pa.array(values, pa.string()))
    rejects = pa.concat_tables([screened.take(refused).select(REFUSED_SCHEMA.names), _unreadable(found)])
    out.mkdir(parents=True)
    pq.write_table(documents.cast(KEPT_SCHEMA), out / "documents.parquet", compression="zstd")
    pq.write_table(rejects, out / "rejects.parquet", compression="zstd")
    index = seen.segment(arrived.keys[stay], arrived.bands[stay], arrived.signatures[stay], clusters, documents.column("id"))
    seen.save(index, out / "index")
    (out / "counts.json").write_text(json.dumps(count([row.document.text for row in found], documents, rejects)) + "\n", "utf-8")


def _indices(chosen: Iterable[bool]) -> Positions:
    return np.flatnonzero(np.fromiter(chosen, bool))


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


def finish(parts: list[Path], ids: Hashes, out: Path) -> dict[str, float]:
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
