"""Builds the ``corpus`` artifact, at any size: sources declared in TOML, streamed shard by shard into checked, deduplicated documents.

Every shard is an artifact whose parent is the shard before it. That chain is what makes the stage incremental: a new source or file at the end
leaves the earlier shards as they are, and its documents are looked up in theirs. The corpus puts the shards' files together (hard links on a local
store), checks them and reports. Reading and look-up are serial, screening is spread over workers. Left out: a look-up spread over machines.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus import expectations
from modelyard.data.corpus.counts import add
from modelyard.data.corpus.document import DataError, Transform
from modelyard.data.corpus.report import page
from modelyard.data.corpus.shard import BlocksConfig, build
from modelyard.data.corpus.trained import abuse_filter, open_abuse_filter, train_classifier
from modelyard.data.filters.classifier import ClassifierConfig, TrainedClassifier
from modelyard.data.filters.screen import FiltersConfig, Screen
from modelyard.data.sources.fetch import fetch
from modelyard.data.sources.stream import Shard, SourceConfig, shards
from modelyard.formats.abuse import FILE as ABUSE_FILE
from modelyard.formats.abuse import REPORT as ABUSE_REPORT
from modelyard.formats.expectation import SuiteResult, Validate
from modelyard.progress import Report
from modelyard.store.artifacts import PARTS, Artifact, Spec, Store
from modelyard.store.code_identity import code_version

NAME = "corpus"


def _tables(value: Any) -> Any:
    """``[corpus.sources.NAME]``, one table each, as the list of them."""
    if not isinstance(value, Mapping):
        return value
    if odd := next((name for name, table in value.items() if not isinstance(table, Mapping)), None):
        raise ValueError(f"{odd}: expected a table, got {value[odd]!r}")
    return [{"name": name, **table} for name, table in value.items()]


Sources = Annotated[list[SourceConfig], BeforeValidator(_tables), Field(min_length=1)]
"""A list of tables, or one table each: ``[corpus.sources.web]``, which a config that ``extends`` another changes or adds to."""


class CorpusConfig(Config):
    """What a corpus is."""

    sources: Sources
    """In order: of two near duplicates the one of the earlier source stays."""
    filters: FiltersConfig
    """What is refused, redacted and cut."""
    classifier: ClassifierConfig | None = None
    """The quality classifier; absent: nothing is refused by it."""
    blocks: BlocksConfig
    """Shards, blocks and the held-out share."""
    expectations: expectations.ExpectedConfig
    """What the corpus must look like."""

    @model_validator(mode="after")
    def _consistent(self) -> CorpusConfig:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"sources: two have the name {next(name for name in names if names.count(name) > 1)}")
        wanted = [*self.classifier.curated, *self.classifier.raw] if self.classifier else []
        if unknown := [name for name in wanted if name not in names]:
            raise ValueError(f"classifier: no source is named {unknown[0]}")
        return self


class SourceIdentity(Config):
    """What defines a source, wherever it lies."""

    declared: dict[str, Any]
    """Its table, without the path."""
    files: list[str]
    """Hashes of its files, or of its package."""
    installed: dict[str, str]
    """Versions of the installed packages that it reads."""


class CorpusIdentity(Config):
    """What defines a corpus."""

    sources: list[SourceIdentity]
    left_out: dict[str, list[str]]
    """Source -> files in its directory that are no data."""
    filters: FiltersConfig
    classifier: ClassifierConfig | None
    blocks: BlocksConfig
    expectations: expectations.ExpectedConfig


class ShardIdentity(Config):
    """What defines a shard beside the one before it."""

    source: SourceIdentity
    filters: FiltersConfig
    classifier: ClassifierConfig | None
    classifier_files: list[str]
    """Hashes of the files that the classifier is trained on."""
    blocks: BlocksConfig


def defined(config: CorpusConfig, store: Store, roots: Sequence[str]) -> CorpusIdentity:
    """The config with what its sources hold now. Raises DataError as :func:`run`."""
    every = _every(config, store, roots)
    named = {shard.source.name: shard.source for shard in every}
    sources = [_source_identity(source, [shard for shard in every if shard.source is source]) for source in named.values()]
    left_out = {shard.source.name: list(shard.left_out) for shard in every if shard.left_out}
    thresholds = {key: getattr(config, key) for key in ("classifier", "blocks", "expectations")}
    return CorpusIdentity(sources=sources, left_out=left_out, filters=_anywhere(config.filters), **thresholds)


def run(
    config: CorpusConfig,
    inputs: Mapping[str, Path],
    out: Path,
    report: Report,
    transform: Transform,
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
        validate: runs the declared expectations.
        store: keeps the shards and the abuse filter.
        roots: where a source's relative path is looked for.

    Raises:
        DataError: an unusable source, or nothing left after filtering.
        ExpectationError: the corpus breaks an expectation; its shards stay built.
    """
    assert not inputs, "the corpus has no parents"
    every = _every(config, store, roots)
    made = _Shards(config, store, every, transform, roots)
    for number, shard in enumerate(every, 1):
        made.build(shard, _in_shards(report, number, len(every)))
        report(number, len(every), unit="shard")
    directories = made.directories()
    counts = add([json.loads((directory / "counts.json").read_text("utf-8")) for directory in directories])
    if not counts["kept"]["documents"]:
        raise DataError(f"corpus: empty: all {counts['read']['documents']} documents were refused ({_reasons(counts)})")
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


def _anywhere(filters: FiltersConfig) -> FiltersConfig:
    """The filters without where their labels lie."""
    return filters.model_copy(update={"abuse": filters.abuse.anywhere()})


def _in_shards(report: Report, number: int, shards: int) -> Report:
    """Progress within shard ``number`` of ``shards``, shown as rows read."""

    def rows(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "row") -> None:
        report(number - 1, shards, {"corpus/shard/rows": float(done)}, unit="shard")

    return rows


def _source_identity(source: SourceConfig, every: list[Shard]) -> SourceIdentity:
    files = [file.sha256 for shard in every for file in shard.files] or ([source.sha256] if source.package else [])
    declared = source.model_dump(mode="json", exclude={"path", "sha256"}, exclude_defaults=True)
    return SourceIdentity(declared=declared, files=files, installed=every[0].versions if every else {})


class _Shards:
    """The shards of one corpus, each built or found after the one before it; the filters are trained only when one is to be built."""

    def __init__(self, config: CorpusConfig, store: Store, every: list[Shard], transform: Transform, roots: Sequence[str]) -> None:
        self.config, self.store, self.every, self.transform = config, store, every, transform
        self.built: list[Artifact] = []
        self.classifier: TrainedClassifier | None = None
        self.filter = abuse_filter(config.filters.abuse, store, every[0].cache, roots).artifact
        self.abuse = store.fetch(self.filter)
        self._fetched: list[Path] = []
        self._screen: Screen | None = None

    def build(self, shard: Shard, report: Report) -> None:
        """Build the next shard, or find it."""
        parents = {"abuse_filter": self.filter} | ({"before": self.built[-1]} if self.built else {})
        spec = Spec("shard", self._identity(shard), parents, code_version("modelyard.data.corpus.shard"))

        def produce(out: Path, checkpoints: Path) -> Mapping[str, float]:
            checkpoints.mkdir(parents=True, exist_ok=True)
            return build(shard, self.directories(), self.config.blocks, self.screen(), out, checkpoints, self.transform, report)

        self.built.append(self.store.build(spec, produce).artifact)

    def directories(self) -> list[Path]:
        """Where the shards built so far lie, each fetched and verified once."""
        self._fetched += [self.store.fetch(artifact) for artifact in self.built[len(self._fetched) :]]
        return list(self._fetched)

    def screen(self) -> Screen:
        """The filters, trained, once what the shards are read from has been fetched."""
        if self._screen is None:
            packages = [shard for shard in self.every if shard.source.package]
            with ThreadPoolExecutor(max_workers=3) as pool:
                list(pool.map(lambda shard: fetch(shard.source.distribution, shard.cache), _by_package(packages)))
            if self.config.classifier:
                self.classifier = train_classifier(self.config.classifier, self.every)
            filters = self.config.filters
            trained = self.classifier.classifier if self.classifier else None
            self._screen = Screen(filters, open_abuse_filter(self.abuse, filters.abuse), trained)
        return self._screen

    def _identity(self, shard: Shard) -> ShardIdentity:
        config = self.config
        named = {*config.classifier.curated, *config.classifier.raw} if config.classifier else set()
        return ShardIdentity(
            source=_source_identity(shard.source, [shard]),
            filters=_anywhere(config.filters),
            classifier=config.classifier,
            classifier_files=[
                digest for other in self.every if other.source.name in named for digest in _source_identity(other.source, [other]).files
            ],
            blocks=config.blocks,
        )


def _by_package(every: list[Shard]) -> list[Shard]:
    """One shard of each package, since two sources may read one archive."""
    return list({shard.source.package: shard for shard in every}.values())


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write(out: Path, counts: dict[str, Any], suites: list[SuiteResult], made: _Shards) -> None:
    abuse = json.loads((out / ABUSE_REPORT).read_text("utf-8"))
    measured: dict[str, Any] = {"abuse_filter": abuse}
    if made.classifier:
        measured["classifier"] = {key: getattr(made.classifier, key)._asdict() for key in ("precision", "recall")}
    statistics = {**counts, "trained": measured}
    sources = source_rows(made.every)
    parts = {artifact.ref: artifact.content for artifact in made.built}
    content = {"statistics.json": statistics, "sources.json": sources, "expectations.json": [s.model_dump() for s in suites], PARTS: parts}
    for name, value in content.items():
        (out / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (out / "report.html").write_text(page(NAME, counts, sources, suites, out / "rejects", abuse), "utf-8")


def source_rows(every: list[Shard]) -> list[dict[str, Any]]:
    """``sources.json``: a row for each source of files or of a package, and for each installed package of an installation."""
    rows: list[dict[str, Any]] = []
    for source in {shard.source.name: shard.source for shard in every}.values():
        mine = [shard for shard in every if shard.source.name == source.name]
        files = [file.sha256 for shard in mine for file in shard.files]
        common = {"format": source.format, "licence": source.licence, "files": files}
        if source.package:
            distribution = source.distribution
            pinned = {key: getattr(distribution, key) for key in ("package", "version", "dist", "sha256")}
            rows.append({"name": source.name, **pinned, **common})
        elif source.packages:
            installed = mine[0].versions.items()
            rows += [
                {"name": f"{source.name}/{package}", "package": package, "version": version, **common} for package, version in installed
            ]
        else:
            digest = source.sha256 or (files[0] if len(files) == 1 else "")
            left_out = [name for shard in mine for name in shard.left_out]
            path = source.path.rsplit("/", 1)[-1]
            rows.append({"name": source.name, "path": path, "sha256": digest, "left_out": left_out, **common})
    return rows


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
