"""What a corpus of any size would take: hours, memory, disk and price, from the costs of a sample. Nothing is started.

A block is read and written by the driver and screened and looked up by workers, one after another, so hours are the driver's and the workers' share
added. A look-up searches every run of the index (a log-structured merge tree of blocks: on average half of TIER - 1 runs on each of log_TIER(blocks)
levels), and compares signatures with those kept documents that share a band. Two documents share one as often as in the sample, so comparisons grow
with the square of the corpus; where new text is less and less like the old they grow more slowly, down to ``hours_alike``. What of the index does not
fit beside a worker's filters is read from its disk. Left out: time for fetching, for Ray's copies, for failures, for tokens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pydantic import Field

from modelyard.config import Config
from modelyard.data.corpus.costs import SEARCHED, Costs
from modelyard.data.corpus.shard import BlocksConfig
from modelyard.data.filters.sorted_runs import TIER

DRIVER = "driver"


class Wanted(Config):
    """What is planned."""

    bytes: float = Field(gt=0, le=1e21)
    """Of text, uncompressed."""
    workers: int = Field(ge=1, le=1_000_000)
    """One core each."""
    rate: float = Field(ge=0, le=1e9)
    """Price of one core for an hour, in any currency."""
    memory_gib: float = Field(gt=0, le=1e6)
    """Of one worker."""
    disk_reads: float = Field(gt=0, le=1e12)
    """Random reads a second of one worker's disk."""


class Step(Config):
    """One kind of work."""

    name: str
    on: str
    """Whose work it is."""
    core_hours: float
    hours: float
    """On the clock."""


class Plan(Config):
    """A corpus planned; what ``--json`` writes."""

    steps: list[Step]
    """In order."""
    hours: float
    """On the clock."""
    hours_alike: float
    """The same, if a document met no more others in the whole corpus than in the sample."""
    least_hours: float
    """With any number of workers: the driver's."""
    price: float
    """Of the workers and the driver for all these hours."""
    documents: float
    """Read."""
    kept: float
    """Documents that stay."""
    blocks: int
    shards: int
    runs: float
    """Runs of the index that a look-up searches, on average over the build."""
    comparisons: float
    """Pairs of signatures."""
    driver_bytes: float
    """Memory of the driver: filters and a block."""
    worker_bytes: float
    """Memory of a worker: filters, and its part of the index as far as it fits."""
    index_bytes: float
    """Of the whole index, on the workers' disks and in the store."""
    spilled_bytes: float
    """Of the index, what fits no worker's memory and is read from disk."""
    output_bytes: float
    """Documents and rejects."""


class _Size(NamedTuple):
    """How large everything is."""

    megabytes: float
    documents: float
    kept: float
    levels: float
    """Of the merge tree."""
    runs: float
    spilled: float
    """Share of the index."""


def plan(costs: Costs, wanted: Wanted, blocks: BlocksConfig) -> Plan:
    """Hours, memory, disk and price of ``wanted``."""
    megabytes = wanted.bytes / 1e6
    documents = megabytes * costs.documents / costs.megabytes
    kept = documents * costs.kept
    pieces, shards = (max(1, math.ceil(megabytes / size)) for size in (blocks.block_megabytes, blocks.shard_megabytes))
    levels = math.log(pieces, TIER)
    index = kept * costs.index
    room = max(0.0, wanted.memory_gib * 2**30 - costs.filter_bytes) * wanted.workers
    spilled = max(0.0, index - room)
    size = _Size(megabytes, documents, kept, levels, 1 + levels * (TIER - 1) / 2, spilled / index if index else 0.0)
    comparisons = documents * costs.pairs * kept / 2
    steps = _steps(costs, wanted, size, comparisons)
    alike = _steps(costs, wanted, size, documents * costs.pairs * costs.documents * costs.kept / 2)
    hours = sum(step.hours for step in steps)
    return Plan(
        steps=steps,
        hours=hours,
        hours_alike=sum(step.hours for step in alike),
        least_hours=sum(step.hours for step in steps if step.on == DRIVER),
        price=hours * (wanted.workers + 1) * wanted.rate,
        documents=documents,
        kept=kept,
        blocks=pieces,
        shards=shards,
        runs=size.runs,
        comparisons=comparisons,
        driver_bytes=costs.filter_bytes + min(wanted.bytes, 2 * blocks.block_megabytes * 1e6) * costs.block_bytes,
        worker_bytes=costs.filter_bytes + (index - spilled) / wanted.workers,
        index_bytes=index,
        spilled_bytes=spilled,
        output_bytes=wanted.bytes * costs.output,
    )


def _steps(costs: Costs, wanted: Wanted, size: _Size, comparisons: float) -> list[Step]:
    """The work and its hours, given how many signatures are compared."""
    workers = wanted.workers
    deeper = math.log2(max(2.0, size.kept / 2 / workers)) / math.log2(SEARCHED)
    reads = (size.documents * size.runs * costs.columns + comparisons) * size.spilled
    work = [
        ("read", DRIVER, size.megabytes * costs.read),
        ("write, and judge", DRIVER, size.megabytes * costs.write),
        ("screen", "", size.megabytes * costs.screen),
        ("look-up: search", "", size.documents * (costs.resolve + size.runs * costs.search * deeper)),
        ("look-up: merge the index", "", size.kept * costs.merge * size.levels),
        ("look-up: compare", "", comparisons * costs.compare),
    ]
    steps = [
        Step(name=name, on=on or f"{workers:,} workers", core_hours=spent / 3600, hours=spent / 3600 / (1 if on else workers))
        for name, on, spent in work
    ]
    waited = reads / wanted.disk_reads / workers / 3600
    return [*steps, Step(name="read the index from disk", on=f"{workers:,} disks", core_hours=0.0, hours=waited)]


def advice(made: Plan, costs: Costs) -> list[str]:
    """What would make most of a plan's hours fewer."""
    hours = {step.name: step.hours for step in made.steps}
    found = []
    if costs.pairs and hours["look-up: compare"] + hours["read the index from disk"] > made.hours / 2:
        found.append(
            "most hours go to comparing documents that share a band by chance: more rows a band (fewer corpus.filters.duplicates.bands) "
            "or longer shingles make fewer of them"
        )
    if made.least_hours > made.hours / 2:
        found.append("most hours are the driver's, which reads and writes alone: more workers save little")
    return found


def assumptions(costs: Costs, wanted: Wanted, blocks: BlocksConfig) -> list[str]:
    """What the plan rests on, each in one line."""
    one_in = f"one pair of kept documents in {1 / costs.pairs:,.0f}" if costs.pairs else "no pair of kept documents"
    per_mb = f"read {costs.read:.4f}, screen {costs.screen:.4f}, write and judge {costs.write:.4f}"
    return [
        f"sample: {costs.megabytes:.2f} MB, {costs.documents:,} documents of {', '.join(costs.sources)}, in equal shares as far as they reach",
        f"processor seconds of one core here, a MB: {per_mb}",
        f"the same, a document: resolve {costs.resolve:.2e}, search {costs.search:.2e} a run, merge {costs.merge:.2e} a level",
        f"documents stay and resemble one another as in the sample, so comparisons grow with the square of the corpus: {costs.kept:.1%} kept, "
        f"{one_in} shares a band, {costs.compare:.1e} s each",
        f"sizes as in the sample: documents and rejects {costs.output:.2f} bytes a byte, index {costs.index:,.0f} bytes a document",
        f"shards of {blocks.shard_megabytes:,g} MB and blocks of {blocks.block_megabytes:,g} MB of text, as the config says",
        f"a worker is one core as fast as this one with {wanted.memory_gib:g} GiB and {wanted.disk_reads:,g} random reads a second; "
        f"filters take {costs.filter_bytes / 2**30:.2f} GiB of it",
        f"price: {wanted.rate:g} for a core and hour, of all workers and the driver, for all of the hours; storage is not in it",
        "not counted: fetching, what a source does before its first row, Ray's copies between processes, failures, tokens",
    ]
