"""The shards of a corpus as artifacts, and the filters that are trained when one of them has to be built.

A shard's parents are the abuse filter and the shard before it, so a source that is added at the end leaves the earlier ones
as they are. One shard is built by :mod:`modelyard.data.corpus.shard`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from modelyard.data.corpus.config import CorpusConfig, ShardIdentity, anywhere, source_identity
from modelyard.data.corpus.document import Transform
from modelyard.data.corpus.partitions import Partitions
from modelyard.data.corpus.shard import build
from modelyard.data.corpus.trained import abuse_filter, open_abuse_filter, train_classifier
from modelyard.data.filters.classifier import TrainedClassifier
from modelyard.data.filters.screen import Screen
from modelyard.data.sources.fetch import fetch
from modelyard.data.sources.stream import Shard
from modelyard.formats.abuse import REPORT as ABUSE_REPORT
from modelyard.progress import Report
from modelyard.store.artifacts import Store
from modelyard.store.code_identity import code_version
from modelyard.store.manifest import Artifact, Spec

CLASSIFIER_REPORT = "classifier.json"
"""File of a shard: what was measured of the quality classifier that screened it. The same in every shard of a corpus."""


class Shards:
    """The shards of one corpus, each built or found after the one before it; the filters are trained only when one is to be built."""

    def __init__(self, config: CorpusConfig, store: Store, every: list[Shard], transform: Transform, roots: Sequence[str]) -> None:
        self.config, self.store, self.every, self.transform = config, store, every, transform
        self.built: list[Artifact] = []
        self.classifier: TrainedClassifier | None = None
        self.filter = abuse_filter(config.filters.abuse, store, every[0].cache, roots).artifact
        self.abuse = store.fetch(self.filter)
        self._fetched: list[Path] = []
        self._screen: Screen | None = None

    def build(self, shard: Shard, partitions: Partitions, report: Report) -> None:
        """Build the next shard, or find it; ``partitions`` hold what is of this corpus."""
        parents = {"abuse_filter": self.filter} | ({"before": self.built[-1]} if self.built else {})
        spec = Spec("shard", self._identity(shard), parents, code_version("modelyard.data.corpus.shard"))

        def produce(out: Path, checkpoints: Path) -> Mapping[str, float]:
            checkpoints.mkdir(parents=True, exist_ok=True)
            screen = self.screen()
            if self.classifier:  # measured where it is trained: who finds the shard trains none
                measured = {name: getattr(self.classifier, name)._asdict() for name in ("precision", "recall")}
                (out / CLASSIFIER_REPORT).write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
            return build(shard, self.directories(), self.config.blocks, screen, out, checkpoints, self.transform, partitions, report)

        self.built.append(self.store.build(spec, produce).artifact)

    def directories(self) -> list[Path]:
        """Where the shards built so far lie, each fetched and verified once."""
        self._fetched += [self.store.fetch(artifact) for artifact in self.built[len(self._fetched) :]]
        return list(self._fetched)

    def measured(self) -> dict[str, Any]:
        """What was measured of the filters that the shards were screened by, whether those were built now or found."""
        found: dict[str, Any] = {"abuse_filter": json.loads((self.abuse / ABUSE_REPORT).read_text("utf-8"))}
        if self.config.classifier:
            found["classifier"] = json.loads((self.directories()[0] / CLASSIFIER_REPORT).read_text("utf-8"))
        return found

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
            source=source_identity(shard.source, [shard]),
            filters=anywhere(config.filters),
            classifier=config.classifier,
            classifier_sources=[source_identity(other.source, [other]) for other in self.every if other.source.name in named],
            blocks=config.blocks,
        )


def _by_package(every: list[Shard]) -> list[Shard]:
    """One shard of each package, since two sources may read one archive."""
    return list({shard.source.package: shard for shard in every}.values())


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
