"""The look-up of a block in the index of a corpus: in this process and on 1, 2, 4 Ray actors, and once as a shuffle of Ray Data.

``python -m bench.data_deduplication [--documents 500000] [--block 10000] [--workers 1 2 4] [--shuffle] [--json OUT]``.
The index holds signatures of random numbers in segments of 125,000; of the block's documents one in four has a copy
there and one in ten a copy in the block. Wall seconds of :func:`modelyard.data.corpus.deduplicate.judge`, the least of
``--runs``; every way must give the same verdicts. With ``--shuffle`` Ray Data groups the same bands (new rows and the
index's, by the first bit of their key): what a shuffle for each block would cost, before any signature is compared.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer

from bench.program import REPORT, program
from modelyard.adapters.ray import cluster
from modelyard.adapters.ray.partitions import ray_partitions
from modelyard.data.corpus.deduplicate import Arrivals, Rules, Verdict, judge
from modelyard.data.corpus.partitions import OpenPartitions, in_process
from modelyard.data.corpus.splits import HeldOut
from modelyard.data.filters import seen
from modelyard.data.filters.duplicates import DuplicatesConfig
from modelyard.model.network import processor

LIMITS = DuplicatesConfig(permutations=128, bands=32, shingle=3, threshold=0.7)
RULES = Rules(LIMITS, 0.4, HeldOut(0.02, 0.0, 0))
SEGMENT = 125_000


def main(
    documents: int = 500_000,
    block: int = 10_000,
    counts: Annotated[list[int], typer.Option("--workers")] = [1, 2, 4],
    runs: int = 3,
    shuffle: Annotated[bool, typer.Option("--shuffle")] = False,
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Measure and print."""
    print(processor.description(), flush=True)
    with tempfile.TemporaryDirectory() as directory:
        kept = index(documents, Path(directory))
        arrivals = arriving(block, kept)
        ways: dict[str, OpenPartitions] = {"in this process": in_process}
        ways |= {f"{count} actors": ray_partitions(count, fewest=1) for count in counts}
        measured = {}
        expected: list[Verdict] = []
        for name, opened in ways.items():
            verdicts, measured[name] = timed(opened, kept, arrivals, runs)
            expected = expected or verdicts
            assert verdicts == expected, f"{name}: other verdicts"
            print(f"{name:20} {measured[name]['judge']:8.3f} s a block, {measured[name]['hold']:8.3f} s to take the index", flush=True)
        print(f"{sum(v.reason is not None for v in expected):,} of {block:,} are copies of one another or of {documents:,}")
        if shuffle:
            measured["Ray Data shuffle"] = {"judge": shuffled(kept, arrivals)}
            print(f"{'Ray Data shuffle':20} {measured['Ray Data shuffle']['judge']:8.3f} s a block", flush=True)
    cluster.disconnect()
    if report:
        report.write_text(json.dumps(measured, indent=1) + "\n", "utf-8")


def index(documents: int, directory: Path) -> list[seen.Kept]:
    """Segments of random signatures."""
    kept: list[seen.Kept] = []
    for number, low in enumerate(range(0, documents, SEGMENT)):
        draw, n = np.random.default_rng(number), min(SEGMENT, documents - low)
        signatures = draw.integers(0, 1 << 32, (n, LIMITS.permutations), np.uint32)
        keys, clusters = draw.integers(0, 1 << 63, (2, n), np.uint64)
        ids = pa.chunked_array([[f"document {row}" for row in range(low, low + n)]])
        segment = seen.segment(keys, seen.band_hashes(signatures, LIMITS.bands), signatures, clusters, ids)
        seen.save(segment, directory / f"{number}")
        kept.append(seen.following(kept, directory / f"{number}"))
    return kept


def arriving(n: int, kept: list[seen.Kept]) -> Arrivals:
    """New documents, some of them copies with a tenth of their signature changed."""
    draw = np.random.default_rng(1 << 20)
    signatures = draw.integers(0, 1 << 32, (n, LIMITS.permutations), np.uint32)
    for row in range(0, n, 4):
        old = seen.load(kept[row % len(kept)].directory).signatures
        signatures[row] = old[row % len(old)]
    for row in range(5, n, 10):
        signatures[row] = signatures[draw.integers(row)]
    changed = draw.random(signatures.shape) < 0.1
    signatures[changed] = draw.integers(0, 1 << 32, changed.sum(), np.uint32)
    return Arrivals(draw.integers(0, 1 << 63, n, np.uint64), seen.band_hashes(signatures, LIMITS.bands), signatures, [None] * n)


def timed(opened: OpenPartitions, kept: list[seen.Kept], arrivals: Arrivals, runs: int) -> tuple[list[Verdict], dict[str, float]]:
    """Verdicts, and seconds for them and for taking the index."""
    with opened() as partitions:
        began = time.perf_counter()
        partitions.hold(kept)
        partitions.each(len_of, [()] * partitions.count)
        held, spent = time.perf_counter() - began, []
        for _ in range(runs):
            began = time.perf_counter()
            verdicts = judge(arrivals, partitions, RULES)
            spent.append(time.perf_counter() - began)
    return verdicts, {"hold": held, "judge": min(spent)}


def len_of(partition: object) -> int:
    """An answer that says that a partition is there."""
    return int(partition is not None)


def shuffled(kept: list[seen.Kept], arrivals: Arrivals) -> float:
    """Seconds for finding the documents that meet the index's by a shuffle of all hashes by key."""
    import ray.data

    cluster.connect()
    tables = [rows(np.ascontiguousarray(arrivals.bands.T), -1)]
    tables += [rows(np.asarray(seen.load(one.directory).bands), one.first) for one in kept]
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    began = time.perf_counter()
    ray.data.DataContext.get_current().enable_progress_bars = False
    met = ray.data.from_arrow(tables).groupby("part").map_groups(meeting, batch_format="pyarrow").take_all()
    spent = time.perf_counter() - began
    assert sum(row["met"] for row in met)
    return spent


def rows(bands: np.ndarray, first: int) -> pa.Table:
    """A row for each hash: its part by its first bit, its band and itself, and the number of its document."""
    count, n = bands.shape
    key = (bands ^ np.arange(count, dtype=np.uint64)[:, None]).reshape(-1)
    numbers = np.tile(np.arange(n), count) + first if first >= 0 else np.full(count * n, -1)
    return pa.table({"part": (key >> np.uint64(63)).astype(np.int64), "key": key, "document": numbers})


def meeting(group: pa.Table) -> pa.Table:
    """How many hashes of one part are new and old at once."""
    keys, new = group.column("key").to_numpy(), group.column("document").to_numpy() < 0
    return pa.table({"met": [int(np.isin(keys[new], keys[~new]).sum())]})


if __name__ == "__main__":
    sys.exit(program(main))
