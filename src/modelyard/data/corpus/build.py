"""The data stage alone and at any size: sources declared in TOML, streamed shard by shard into a checked, deduplicated corpus.

Every shard is an artifact whose parent is the shard before it. That chain is what makes the stage incremental: a new source or file at the end
leaves the earlier shards as they are, and its documents are looked up in theirs. The corpus itself is an artifact that puts the shards' files
together (hard links on a local store), checks them and reports. Reading and look-up are serial, screening is spread over workers. Left out: a
look-up spread over machines.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from modelyard.config import Config, digest
from modelyard.data.corpus import expectations
from modelyard.data.corpus.counts import add
from modelyard.data.corpus.document import Transform
from modelyard.data.corpus.report import page
from modelyard.data.corpus.shard import BlocksConfig, build
from modelyard.data.filters import abuse, classifier
from modelyard.data.filters.abuse import Trained
from modelyard.data.filters.classifier import ClassifierConfig, TrainedClassifier
from modelyard.data.filters.screen import FiltersConfig, Screen
from modelyard.data.sources.stream import Shard, SourceConfig, rows, shards
from modelyard.data.tokens import token_files
from modelyard.data.tokens.token_files import TokenFilesConfig
from modelyard.formats.expectation import SuiteResult, Validate, suites_version
from modelyard.progress import Report
from modelyard.store.artifacts import NAME, Artifact, Built, Spec, Store
from modelyard.store.code_identity import code_version


class StageExecution(Config):
    """Where and how it runs; none of it changes the corpus."""

    store: str = "file://.modelyard/store"
    """URL of the artifact store."""
    scratch: str = ".modelyard/scratch"
    """Local directory for unfinished work and copies of remote inputs."""
    workers: int = Field(default=1, ge=1)
    """Ray tasks at once; 1 works in this process."""


class StageConfig(Config):
    """What the stage builds."""

    name: str = Field(pattern=f"^{NAME.pattern}$")
    """Name of the corpus: its versions are compared with one another."""
    sources: list[SourceConfig] = Field(min_length=1)
    """In order: of two near duplicates the one of the earlier source stays."""
    filters: FiltersConfig
    """What is refused, redacted and cut."""
    classifier: ClassifierConfig | None = None
    """The quality classifier; absent: nothing is refused by it."""
    blocks: BlocksConfig
    """Shards, blocks and the held-out share."""
    expectations: expectations.ExpectedConfig
    """What the corpus must look like."""
    tokens: TokenFilesConfig | None = None
    """Tokenizer, token files and mixture; absent: documents only."""
    execution: StageExecution = StageExecution()
    """Where and how it runs."""

    @model_validator(mode="after")
    def _consistent(self) -> StageConfig:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"sources: two have the name {next(name for name in names if names.count(name) > 1)}")
        wanted = [*self.classifier.curated, *self.classifier.raw] if self.classifier else []
        if unknown := [name for name in wanted if name not in names]:
            raise ValueError(f"classifier: no source is named {unknown[0]}")
        return self


class ShardIdentity(Config):
    """What defines a shard beside the one before it."""

    source: dict[str, Any]
    """The source's declaration, without where it lies."""
    files: list[str]
    """Hashes of its files."""
    installed: dict[str, str]
    """Versions of its packages."""
    filters: FiltersConfig
    classifier: ClassifierConfig | None
    classifier_files: list[str]
    """Hashes of the files that the classifier is trained on."""
    blocks: BlocksConfig


class CorpusIdentity(Config):
    """What defines a corpus beside its shards."""

    name: str
    expectations: expectations.ExpectedConfig
    tokens: TokenFilesConfig | None
    previous: str
    """Reference of the version that drift is measured against, or nothing."""


def run(config: StageConfig, transform: Transform, validate: Validate, report: Report) -> Built:
    """Build the corpus, or find it.

    Raises:
        DataError: a source that cannot be used.
        ExpectationError: the corpus breaks an expectation; its shards stay built.
    """
    store = Store(config.execution.store, config.execution.scratch)
    scratch = Path(config.execution.scratch)
    every = [shard for source in config.sources for shard in shards(source, scratch, config.blocks.shard_megabytes)]
    trained = _Trained(config, every, scratch / "sources")
    built: list[Artifact] = []
    for number, shard in enumerate(every, 1):
        spec = Spec(
            "shard", _identity(config, shard, every), {"before": built[-1]} if built else {}, code_version("modelyard.data.corpus.shard")
        )
        earlier = [store.fetch(artifact) for artifact in built]

        def produce(out: Path, checkpoints: Path, shard: Shard = shard, earlier: list[Path] = earlier) -> Mapping[str, float]:
            checkpoints.mkdir(parents=True, exist_ok=True)
            return build(shard, earlier, config.blocks, trained.screen(), out, checkpoints, transform, report)

        built.append(store.build(spec, produce).artifact)
        report(number, len(every), unit="shard")
    return _assemble(config, store, built, trained, validate)


def _identity(config: StageConfig, shard: Shard, every: list[Shard]) -> ShardIdentity:
    named = {*config.classifier.curated, *config.classifier.raw} if config.classifier else set()
    return ShardIdentity(
        source=shard.source.model_dump(mode="json", exclude={"path", "sha256"}),
        files=[file.sha256 for file in shard.files],
        installed=shard.versions,
        filters=config.filters.model_copy(update={"abuse": config.filters.abuse.anywhere()}),
        classifier=config.classifier,
        classifier_files=[file.sha256 for other in every if other.source.name in named for file in other.files],
        blocks=config.blocks,
    )


class _Trained:
    """The filters that are trained, made once and only when a shard is to be built."""

    def __init__(self, config: StageConfig, every: list[Shard], cache: Path) -> None:
        self._config, self._every, self._cache = config, every, cache
        self.classifier: TrainedClassifier | None = None

    @cached_property
    def abuse(self) -> Trained:
        """Also wanted by the report of a corpus whose shards were all found."""
        return abuse.build(self._config.filters.abuse, self._cache)

    def screen(self) -> Screen:
        if self.classifier is None and self._config.classifier:
            self.classifier = _train_classifier(self._config.classifier, self._every)
        return Screen(self._config.filters, self.abuse.filter, self.classifier.classifier if self.classifier else None)


def _train_classifier(config: ClassifierConfig, every: list[Shard]) -> TrainedClassifier:
    def sample(names: list[str]) -> list[str]:
        texts: Iterator[str] = (
            row.document.text for shard in every if shard.source.name in names for row in rows(shard, set()) if row.broken is None
        )
        return [text for text, _ in zip(texts, range(config.documents), strict=False)]

    return classifier.train(sample(config.curated), sample(config.raw), config)


def _assemble(config: StageConfig, store: Store, built: list[Artifact], trained: _Trained, validate: Validate) -> Built:
    """The corpus of the shards: files put together, checked and reported on."""
    pointer = f"corpora/{config.name}.json"
    previous: dict[str, Any] = json.loads(store.storage.read(pointer)) if store.storage.exists(pointer) else {"ref": "", "shards": []}
    parents = {f"shard_{number:04d}": artifact for number, artifact in enumerate(built)}
    references = [artifact.ref for artifact in built]
    if previous["shards"] == references:
        previous = previous.get("previous") or {"ref": "", "shards": []}  # the same corpus again: found, not compared with itself
    identity = CorpusIdentity(name=config.name, expectations=config.expectations, tokens=config.tokens, previous=previous["ref"])

    def produce(out: Path, _: Path) -> Mapping[str, float]:
        directories = [store.fetch(artifact) for artifact in built]
        counts = add([json.loads((directory / "counts.json").read_text("utf-8")) for directory in directories])
        before = json.loads((store.fetch(store.get(previous["ref"])) / "statistics.json").read_text("utf-8")) if previous["ref"] else None
        suites = expectations.check(directories, counts, before, config.expectations, validate)
        for result in suites:
            result.require()
        for number, directory in enumerate(directories):
            for kind in ("documents", "rejects"):
                (out / kind).mkdir(exist_ok=True)
                for file in sorted((directory / kind).iterdir()):
                    _link(file, out / kind / f"{number:04d}-{file.name}")
        _write(out, config, counts, suites, built, trained)
        return _metrics(counts) | _token_metrics(config.tokens, out)

    code = digest([code_version("modelyard.data.corpus.build"), suites_version(*expectations.SUITES)])[:16]
    made = store.build(Spec("documents", identity, parents, code), produce)
    content = {"ref": made.artifact.ref, "shards": references, "previous": {"ref": previous["ref"], "shards": previous["shards"]}}
    store.storage.write(pointer, (json.dumps(content) + "\n").encode())
    return made


def _token_metrics(config: TokenFilesConfig | None, out: Path) -> dict[str, float]:
    """Write the token files of the corpus in ``out``, where the config asks for them."""
    if config is None:
        return {}
    (out / "tokens").mkdir()
    measured = token_files.write(out, config, out / "tokens")
    (out / "tokens" / "statistics.json").write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
    return {
        **{f"documents/tokens/{name}": count for name, count in measured["tokens"].items()},
        **{f"documents/bytes_per_token/{name.replace('/', '_')}": value for name, value in measured["bytes_per_token"].items()},
    }


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write(
    out: Path, config: StageConfig, counts: dict[str, Any], suites: list[SuiteResult], built: list[Artifact], trained: _Trained
) -> None:
    measured = {"abuse": trained.abuse.report()}
    if trained.classifier:
        measured["classifier"] = {name: getattr(trained.classifier, name)._asdict() for name in ("precision", "recall")}
    trained.abuse.save(out)
    sources = [s.model_dump(mode="json", exclude={"path"}) | {"path": s.path.rsplit("/", 1)[-1]} for s in config.sources]
    for source in sources:
        shards_of = [artifact for artifact in built if artifact.config["source"]["name"] == source["name"]]
        source["files"] = [file for artifact in shards_of for file in artifact.config["files"]]
        source["installed"] = shards_of[0].config["installed"] if shards_of else {}
    content = {"statistics": {**counts, "trained": measured}, "sources": sources, "expectations": [s.model_dump() for s in suites]}
    for name, value in content.items():
        (out / f"{name}.json").write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (out / "report.html").write_text(page(config.name, counts, sources, suites, out / "rejects", trained.abuse.report()), "utf-8")


def _metrics(counts: dict[str, Any]) -> dict[str, float]:
    refused = {key.split("\t")[0]: value for key, value in counts.get("refused", {}).items() if key.endswith("\tdocuments")}
    return {
        **{f"documents/read/{unit}": counts["read"][unit] for unit in ("documents", "bytes")},
        **{f"documents/kept/{unit}": counts["kept"][unit] for unit in ("documents", "bytes")},
        **{f"documents/refused/{reason}": count for reason, count in refused.items()},
        **{f"documents/redacted/{kind}": count for kind, count in counts.get("redacted", {}).items()},
    }
