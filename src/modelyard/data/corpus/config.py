"""What a corpus is: the tables of its config, and what of them and of its sources defines the artifact, wherever it lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus import expectations
from modelyard.data.corpus.shard import BlocksConfig
from modelyard.data.filters.classifier import ClassifierConfig
from modelyard.data.filters.screen import FiltersConfig
from modelyard.data.sources.record_files import form_of
from modelyard.data.sources.stream import Shard, SourceConfig


def _tables(value: Any) -> Any:
    """``[corpus.sources.NAME]``, one table each, as the list of them."""
    if not isinstance(value, Mapping):
        return value
    if odd := next((name for name, table in value.items() if not isinstance(table, Mapping)), None):
        raise ValueError(f"{odd}: expected a table, got {value[odd]!r}")
    return [{"name": name, **table} for name, table in value.items()]


Tables = list[SourceConfig] | dict[str, SourceConfig]
Sources = Annotated[list[SourceConfig], BeforeValidator(_tables, json_schema_input_type=Tables), Field(min_length=1)]
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
    """Its table, without the path; where the files' names tell their forms, with those."""
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
    classifier_sources: list[SourceIdentity]
    """The sources that the classifier is trained on."""
    blocks: BlocksConfig


def source_identity(source: SourceConfig, every: list[Shard]) -> SourceIdentity:
    """What defines ``source``, whose shards are ``every``."""
    files = [file.sha256 for shard in every for file in shard.files] or ([source.sha256] if source.package else [])
    declared = source.model_dump(mode="json", exclude={"path", "sha256"}, exclude_defaults=True)
    if source.format == "auto":  # a renamed file may be read otherwise, and no hash of its bytes says so
        declared["forms"] = [form_of(file.name) for shard in every for file in shard.files]
    return SourceIdentity(declared=declared, files=files, installed=every[0].versions if every else {})


def anywhere(filters: FiltersConfig) -> FiltersConfig:
    """The filters without where their labels lie."""
    return filters.model_copy(update={"abuse": filters.abuse.anywhere()})
