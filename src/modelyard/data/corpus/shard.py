"""Builds one shard of a streamed corpus: its files in blocks, each block screened in parallel, then looked up among everything kept before
(:mod:`modelyard.data.corpus.deduplicate`).

A block is a stated amount of text; two are in memory at once, one on the workers and one that is looked up. A finished block is a directory that
appears by one rename, so work that is killed goes on behind its last block, and the result is the same bytes. Of a near-duplicate pair the later
document goes. A kept document that is still similar to an earlier one joins its cluster, and clusters, not documents, are held out; a document
similar to both sides goes. The documents of one work (a play, a module, an article) are one cluster from the start.
"""

from __future__ import annotations

import bisect
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from modelyard.config import Config
from modelyard.data.corpus.block_files import Outcome, finish, indices, write
from modelyard.data.corpus.deduplicate import Arrivals, Rules, Verdict, judge
from modelyard.data.corpus.document import Transform, to_table
from modelyard.data.corpus.partitions import Partitions
from modelyard.data.corpus.splits import HeldOut
from modelyard.data.filters import seen
from modelyard.data.filters.screen import Screen
from modelyard.data.filters.seen import Kept
from modelyard.data.sources.row_ids import id_hash
from modelyard.data.sources.stream import Row, Shard, counts_as_broken, refuse_broken, rows
from modelyard.progress import Report

_TABLE_ROWS = 1000
_ROW = 200
"""Bytes that a row takes beside its text."""


class BlocksConfig(Config):
    """How a shard is cut and held out."""

    shard_megabytes: float
    """Files of a source are grouped until a shard has this size."""
    block_megabytes: float
    """Text of a block; two are in memory at once."""
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

    @property
    def name(self) -> str:
        """Of its directory."""
        return f"{self.number:05d}"


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
        DataError: more rows are unreadable than the source allows, or all of the first block, where it does not allow all.
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
    for block, screened in _ahead(_blocks(rows(shard, ids), config.block_megabytes), screen, transform, checkpoints):
        total += len(block.rows)
        for row in block.rows:
            if row.broken and counts_as_broken(row.broken.reason):
                broken, first = broken + 1, first or f"{row.place}: {row.broken.detail}"
        if broken == total:  # a mistyped field, and the rest may be terabytes
            refuse_broken(shard, total, broken, first)
        part = checkpoints / block.name
        if screened is not None:
            partial = checkpoints / f"{block.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partitions.hold(kept)
            process(block, screened, kept, rules, partial, partitions)
            os.replace(partial, part)
        parts.append(part)
        kept.append(seen.following(kept, part / "index"))
        report(total, 0, unit="row")
        del block, screened  # before the one after the next is read
    refuse_broken(shard, total, broken, first)
    partitions.hold(kept)  # before the blocks become one
    return finish(parts, np.array(sorted(ids - before), np.uint64), out)


def _blocks(found: Iterator[Row], megabytes: float) -> Iterator[Block]:
    block: list[Row] = []
    size = number = 0
    for row in found:
        block.append(row)
        size += _ROW + len(row.document.text)
        if size >= megabytes * 1e6:
            yield Block(block, number)
            block, size, number = [], 0, number + 1
    if block or number == 0:
        yield Block(block, number)


def _ahead(
    blocks: Iterator[Block], screen: Screen, transform: Transform, checkpoints: Path
) -> Iterator[tuple[Block, Iterator[pa.Table] | None]]:
    """Each block and its screened tables, None where its directory is there; while one is looked up the next is on the workers."""
    started: list[tuple[Block, Iterator[pa.Table] | None]] = []
    for block in blocks:
        started.append((block, None if (checkpoints / block.name).exists() else begun(block.rows, screen, transform)))
        del block
        if len(started) > 1:
            yield started.pop(0)
    yield from started


def begun(found: list[Row], screen: Screen, transform: Transform) -> Iterator[pa.Table]:
    """What the screen says, or is about to say, of the rows that could be read, at least one table."""
    whole = to_table(row.document for row in found if row.broken is None)
    tables = [whole.slice(start, _TABLE_ROWS) for start in range(0, whole.num_rows, _TABLE_ROWS)] or [whole]
    return transform(tables, screen)


def process(block: Block, tables: Iterator[pa.Table], earlier: list[Kept], rules: Rules, out: Path, partitions: Partitions) -> None:
    """Look up and write one block of which the screen has said what it says."""
    screened = _placed(pa.concat_tables(tables), block.rows)
    kept = indices(reason is None for reason in screened.column("reason").to_pylist())
    chosen = screened.take(kept)
    found = _arrivals(chosen, rules)
    verdicts = judge(found, partitions, rules)
    names = _names(verdicts, chosen.column("id").to_pylist(), earlier)
    write(block.rows, screened, kept, found, [Outcome(v, name) for v, name in zip(verdicts, names, strict=True)], out)


def _placed(screened: pa.Table, found: list[Row]) -> pa.Table:
    """The screened rows with their places and votes."""
    readable = [row for row in found if row.broken is None]
    screened = screened.append_column("place", pa.array([row.place for row in readable], pa.string()))
    return screened.append_column("votes", pa.array([row.document.votes for row in readable], pa.list_(pa.int8())))


def _arrivals(chosen: pa.Table, rules: Rules) -> Arrivals:
    """What is looked up of the screened documents that nothing speaks against."""
    keys = np.frombuffer(b"".join(chosen.column("key").to_pylist()), np.uint64)[::2]
    signatures = np.frombuffer(b"".join(chosen.column("signature").to_pylist()), np.uint32).reshape(-1, rules.limits.permutations)
    works = [id_hash(group) if group else None for group in chosen.column("group").to_pylist()]
    return Arrivals(keys, seen.band_hashes(signatures, rules.limits.bands), signatures, works)


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
