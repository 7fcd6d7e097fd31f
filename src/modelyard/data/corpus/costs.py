"""What the steps of a corpus cost on one core of this machine, measured on a sample of the sources that a config names.

Processor time is counted, so that neither other work on the machine nor a slow disk is part of it. The sample is a block that goes the way of every
block, in one process with an index of one part; what the screen and the partitions do is told apart from what the driver does. Left out: fetching
files, Ray's copies between processes, and what happens once (training the filters, what a source does before its first row, the report).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from pydantic import Field

from modelyard.config import Config
from modelyard.data.corpus.block_files import finish
from modelyard.data.corpus.config import CorpusConfig
from modelyard.data.corpus.deduplicate import Rules
from modelyard.data.corpus.document import DataError, TableFunction, run_inline, to_table
from modelyard.data.corpus.partitions import Answer, LocalPartitions
from modelyard.data.corpus.shard import Block, begun, process
from modelyard.data.corpus.shards import Shards
from modelyard.data.corpus.splits import HeldOut
from modelyard.data.filters import seen
from modelyard.data.filters.partition import Partition
from modelyard.data.filters.seen import Kept
from modelyard.data.filters.sorted_runs import TIER, Pairs, Query, Run, Sorted, matches, merged
from modelyard.data.sources.stream import Row, Shard, rows, shards
from modelyard.store.artifacts import Store

Clock = Callable[[], float]
"""Seconds of this process's processor time."""
SEARCHED = 1 << 22
"""Hashes of the run that is searched to time a search."""
_QUERIES = 1 << 15
_COMPARED = 1 << 16


class Costs(Config):
    """Measured on one core; seconds are processor time, MB are 10^6 bytes of text as it is read."""

    sources: list[str]
    """What the sample is of, in equal shares as far as they reach."""
    megabytes: float = Field(gt=0)
    """Of the sample."""
    documents: int = Field(gt=0)
    """Rows of the sample."""
    kept: float = Field(ge=0, le=1)
    """Share of documents that stay."""
    read: float
    """Seconds a MB, from files to rows: the driver's."""
    screen: float
    """Seconds a MB, filters and signatures: the workers'."""
    write: float
    """Seconds a MB for the rest of a block, most of it writing documents, rejects and index, twice for the index: the driver's."""
    resolve: float
    """Seconds a document for the look-up in an empty index: the workers'."""
    search: float
    """Seconds a document for the search of its hashes in one run of 2^22: the workers'."""
    merge: float
    """Seconds a kept document each time that its run is merged: the workers'."""
    compare: float
    """Seconds for each pair of documents that share a band: the workers'."""
    pairs: float
    """Share of all pairs of kept documents that share a band."""
    output: float
    """Bytes of documents and rejects for each byte read."""
    index: float
    """Bytes of the index for each document kept."""
    columns: int
    """Hashes of a document in the index: its exact key's and its bands'."""
    filter_bytes: int
    """Memory of a process that holds the filters and no text."""
    block_bytes: float
    """Memory for each byte of a block's text."""


def measure(config: CorpusConfig, store: Store, roots: Sequence[str], megabytes: float, clock: Clock) -> Costs:
    """Build a block of about ``megabytes`` from the sources of ``config`` and say what each step cost.

    Args:
        config: whose sources, filters and blocks are measured.
        store: keeps the abuse filter, as for a build.
        roots: where a source's relative path is looked for.
        megabytes: size of the sample.
        clock: what is read between steps.

    Raises:
        DataError: an unusable source, or no text in any.
    """
    every = [one for source in config.sources for one in shards(source, store.scratch, config.blocks.shard_megabytes, roots)]
    if not every:
        raise DataError("corpus: empty: every source is left out")
    screen = Shards(config, store, every, run_inline, roots).screen()
    sources = _opened(every)
    screen(to_table(row.document for first, _ in sources for row in first if row.broken is None))  # loads what is loaded once
    empty = psutil.Process().memory_info().rss
    began = clock()
    sample = _sample(sources, megabytes)
    read = clock() - began
    size = sum(len(row.document.text.encode("utf-8", "surrogatepass")) for row in sample)
    if not size:
        raise DataError("corpus: the sample of its sources holds no text")
    held = HeldOut(config.blocks.validation, config.sources[0].test, config.blocks.seed)
    rules = Rules(config.filters.duplicates, config.blocks.cluster_similarity, held)
    screened, resolved = _Timed(clock), _TimedPartitions(clock)
    with tempfile.TemporaryDirectory(prefix="modelyard-plan-") as directory:
        part, whole = Path(directory, "part"), Path(directory, "whole")
        whole.mkdir()
        began = clock()
        process(Block(sample, 0), begun(sample, screen, screened), [], rules, part, resolved)
        finish([part], np.zeros(0, np.uint64), whole)
        written = clock() - began - screened.seconds - resolved.seconds
        grown = psutil.Process().memory_info().rss - empty
        index = seen.following([], whole / "index")
        outputs = [_bytes(whole / kind) for kind in ("documents", "rejects")]
        index_bytes = _bytes(whole / "index")
        pairs, compare = _pairs(index, clock)
    columns = config.filters.duplicates.bands + 1
    return Costs(
        sources=list(dict.fromkeys(shard.source.name for shard in every)),
        megabytes=size / 1e6,
        documents=len(sample),
        kept=index.documents / len(sample),
        read=read / (size / 1e6),
        screen=screened.seconds / (size / 1e6),
        write=written / (size / 1e6),
        resolve=resolved.seconds / len(sample),
        search=columns * _search(clock),
        merge=columns * _merge(clock),
        compare=compare,
        pairs=pairs,
        output=sum(outputs) / size,
        index=index_bytes / max(1, index.documents),
        columns=columns,
        filter_bytes=empty,
        block_bytes=max(2.0, grown / size),
    )


Opened = list[tuple[list[Row], Iterator[Row]]]
"""The first row of each source, and an iterator of the others."""


def _opened(every: list[Shard]) -> Opened:
    """The first shard of each source, begun: what a reader does before its first row does not grow with the source."""
    firsts: dict[str, Iterator[Row]] = {}
    for shard in every:
        firsts.setdefault(shard.source.name, rows(shard, set()))
    return [(list(islice(iterator, 1)), iterator) for iterator in firsts.values()]


def _sample(sources: Opened, megabytes: float) -> list[Row]:
    """Rows of each source in turn, until there are ``megabytes`` of text or no more rows."""
    found = [row for first, _ in sources for row in first]
    size = sum(len(row.document.text) for row in found)
    for turn in zip_longest(*(iterator for _, iterator in sources)):
        if size >= megabytes * 1e6:
            break
        mine = [row for row in turn if row is not None]
        found += mine
        size += sum(len(row.document.text) for row in mine)
    return found


class _Timed:
    """The transform without workers, with a clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds = clock, 0.0

    def __call__(self, tables: list[pa.Table], function: TableFunction) -> Iterator[pa.Table]:
        for table in tables:
            began = self.clock()
            screened = function(table)
            self.seconds += self.clock() - began
            yield screened


class _TimedPartitions(LocalPartitions):
    """One part, with a clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.seconds = clock, 0.0

    def each(self, function: Callable[..., Answer], arguments: Sequence[tuple[Any, ...]]) -> list[Answer]:
        began = self.clock()
        answers = super().each(function, arguments)
        self.seconds += self.clock() - began
        return answers


def _pairs(index: Kept, clock: Clock) -> tuple[float, float]:
    """(share of the pairs of kept documents that share a band, seconds for the comparison of one)."""
    n = index.documents
    if n < 2:
        return 0.0, 0.0
    partition, segment = Partition(0, 1), seen.load(index.directory)
    partition.hold([index])
    queries = [Query(segment.exact_rows.astype(np.int64), segment.exact)]
    queries += [
        Query(rows.astype(np.int64), np.ascontiguousarray(hashes)) for rows, hashes in zip(segment.band_rows, segment.bands, strict=True)
    ]
    candidates = partition.look_up(queries).candidates
    met = np.unique(
        candidates.documents[candidates.documents < candidates.others] * n + candidates.others[candidates.documents < candidates.others]
    )
    draw = np.random.default_rng(0)
    compared = Pairs(draw.integers(0, n, _COMPARED), draw.integers(0, n, _COMPARED))
    began = clock()
    partition.similar(compared, np.asarray(segment.signatures), 1.0)
    return 2 * met.size / (n * (n - 1)), (clock() - began) / _COMPARED


def _search(clock: Clock) -> float:
    """Seconds for the search of one hash in :data:`SEARCHED`."""
    draw = np.random.default_rng(0)
    hashes = np.sort(draw.integers(0, 1 << 63, SEARCHED, np.uint64))
    column = Sorted(hashes, np.zeros(SEARCHED, np.uint32))
    query = Query(np.arange(_QUERIES), np.sort(draw.integers(0, 1 << 63, _QUERIES, np.uint64)))
    began = clock()
    matches(column, 0, query)
    return (clock() - began) / _QUERIES


def _merge(clock: Clock) -> float:
    """Seconds a hash for the merging of runs."""
    draw = np.random.default_rng(0)
    each = SEARCHED // TIER
    runs = [
        Run(number * each, 0, [Sorted(np.sort(draw.integers(0, 1 << 63, each, np.uint64)), np.arange(each, dtype=np.uint32))])
        for number in range(TIER)
    ]
    began = clock()
    merged(runs)
    return (clock() - began) / SEARCHED


def _bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
