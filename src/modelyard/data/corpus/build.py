"""Builds the ``corpus`` artifact, at any size: sources declared in TOML, streamed shard by shard into checked, deduplicated documents.

Every shard is an artifact whose parent is the shard before it. That chain is what makes the stage incremental: a new source or file at the end
leaves the earlier shards as they are, and its documents are looked up in theirs. The corpus puts the shards' files together (hard links on a local
store), checks them and reports. Reading and writing are serial, screening and the look-up are spread over workers.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.data.corpus import expectations
from modelyard.data.corpus.config import CorpusConfig, CorpusIdentity, anywhere, source_identity
from modelyard.data.corpus.counts import add
from modelyard.data.corpus.document import DataError, Transform
from modelyard.data.corpus.partitions import OpenPartitions
from modelyard.data.corpus.report import page
from modelyard.data.corpus.shards import Shards, source_rows
from modelyard.data.sources.stream import Shard, shards
from modelyard.formats.abuse import FILE as ABUSE_FILE
from modelyard.formats.abuse import REPORT as ABUSE_REPORT
from modelyard.formats.expectation import SuiteResult, Validate
from modelyard.progress import Report
from modelyard.store.artifacts import Store
from modelyard.store.manifest import PARTS

NAME = "corpus"


def defined(config: CorpusConfig, store: Store, roots: Sequence[str]) -> CorpusIdentity:
    """The config with what its sources hold now. Raises DataError as :func:`run`."""
    every = _every(config, store, roots)
    named = {shard.source.name: shard.source for shard in every}
    sources = [source_identity(source, [shard for shard in every if shard.source is source]) for source in named.values()]
    left_out = {shard.source.name: list(shard.left_out) for shard in every if shard.left_out}
    thresholds = {key: getattr(config, key) for key in ("classifier", "blocks", "expectations")}
    return CorpusIdentity(sources=sources, left_out=left_out, filters=anywhere(config.filters), **thresholds)


def run(
    config: CorpusConfig,
    inputs: Mapping[str, Path],
    out: Path,
    report: Report,
    transform: Transform,
    partitions: OpenPartitions,
    validate: Validate,
    store: Store,
    roots: Sequence[str],
) -> dict[str, float]:
    """Build what is missing of the shards in ``store`` and put the corpus together in ``out``.

    Args:
        config: what to build.
        inputs: no artifact is needed; present because every stage has it.
        out: empty directory.
        report: receives progress in shards.
        transform: runs the screening pass, inline or on workers.
        partitions: opens the index of kept documents, in one part or spread over workers.
        validate: runs the declared expectations.
        store: keeps the shards and the abuse filter.
        roots: where a source's relative path is looked for.

    Raises:
        DataError: an unusable source, or nothing left after filtering.
        ExpectationError: the corpus breaks an expectation; its shards stay built.
    """
    assert not inputs, "the corpus has no parents"
    every = _every(config, store, roots)
    made = Shards(config, store, every, transform, roots)
    with partitions() as index:
        for number, shard in enumerate(every, 1):
            made.build(shard, index, _in_shards(report, number, len(every)))
            report(number, len(every), unit="shard")
    directories = made.directories()
    counts = add([json.loads((directory / "counts.json").read_text("utf-8")) for directory in directories])
    if not counts["kept"]["documents"]:
        raise DataError(f"corpus: empty: {_why_empty(config, counts)}")
    suites = expectations.check(directories, counts, config.expectations, validate)
    for result in suites:
        result.keep_page(out)
        result.require()
    for number, directory in enumerate(directories):
        for kind in ("documents", "rejects"):
            (out / kind).mkdir(exist_ok=True)
            for file in sorted((directory / kind).iterdir()):
                _link(file, out / kind / f"{number:04d}-{file.name}")
    for name in (ABUSE_FILE, ABUSE_REPORT):
        shutil.copyfile(made.abuse / name, out / name)
    _write(out, counts, suites, made)
    return _metrics(counts)


def _every(config: CorpusConfig, store: Store, roots: Sequence[str]) -> list[Shard]:
    """The shards of all sources, in order."""
    every = [one for source in config.sources for one in shards(source, store.scratch, config.blocks.shard_megabytes, roots)]
    if not every:
        raise DataError("corpus: empty: every source is left out")
    return every


def _in_shards(report: Report, number: int, shards: int) -> Report:
    """Progress within shard ``number`` of ``shards``, shown as rows read."""

    def rows(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "row") -> None:
        report(number - 1, shards, {"corpus/shard/rows": float(done)}, unit="shard")

    return rows


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write(out: Path, counts: dict[str, Any], suites: list[SuiteResult], made: Shards) -> None:
    measured = made.measured()
    statistics = {**counts, "trained": measured}
    sources = source_rows(made.every)
    parts = {artifact.ref: artifact.content for artifact in made.built}
    content = {"statistics.json": statistics, "sources.json": sources, "expectations.json": [s.model_dump() for s in suites], PARTS: parts}
    for name, value in content.items():
        (out / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (out / "report.html").write_text(page(NAME, counts, sources, suites, out / "rejects", measured["abuse_filter"]), "utf-8")


def _why_empty(config: CorpusConfig, counts: dict[str, Any]) -> str:
    """Why no document is left."""
    read, unread = counts["read"]["documents"], _reasons(counts)
    if not read:
        names = ", ".join(source.name for source in config.sources)
        return f"nothing was read of {names}{f' (set aside: {unread})' if unread else ''}"
    return f"all {read} documents were refused ({unread})"


def _refused(counts: dict[str, Any]) -> dict[str, int]:
    """Reason -> documents."""
    return {key.split("\t")[0]: value for key, value in counts.get("refused", {}).items() if key.endswith("\tdocuments")}


def _reasons(counts: dict[str, Any]) -> str:
    ordered = sorted(_refused(counts).items(), key=lambda item: -item[1])
    return ", ".join(f"{reason} {count}" for reason, count in ordered)


def _metrics(counts: dict[str, Any]) -> dict[str, float]:
    return {
        "corpus/documents/read": counts["read"]["documents"],
        "corpus/documents/kept": counts["kept"]["documents"],
        "corpus/bytes/read": counts["read"]["bytes"],
        "corpus/bytes/kept": counts["kept"]["bytes"],
        **{f"corpus/refused/{reason}": count for reason, count in _refused(counts).items()},
        **{f"corpus/redacted/{kind}": count for kind, count in counts.get("redacted", {}).items()},
        **{f"corpus/cut/{rule}/characters": count for rule, count in counts.get("cut", {}).items()},
    }
