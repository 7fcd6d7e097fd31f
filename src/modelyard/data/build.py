"""The data stages without a pipeline: the same artifacts, of the same fingerprints, as a pipeline builds from the same tables."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from modelyard.config import Config
from modelyard.data.corpus import build as corpus
from modelyard.data.corpus import expectations
from modelyard.data.corpus.config import CorpusConfig
from modelyard.data.corpus.document import Transform
from modelyard.data.corpus.partitions import OpenPartitions
from modelyard.data.tokens import token_files
from modelyard.data.tokens.token_files import TokensConfig
from modelyard.execution import ExecutionConfig
from modelyard.formats.expectation import Validate, checked_code
from modelyard.progress import Report
from modelyard.store.artifacts import Built, Store
from modelyard.store.manifest import NAME, Artifact, Spec

CHECKED_BY = "modelyard.adapters.expectations"
"""Module that runs the suites; its code is part of what a corpus is."""


class DataConfig(Config):
    """The tables of a pipeline's file that are about data; the others are not read."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(pattern=f"^{NAME.pattern}$")
    """Name of the line: versions of its corpus are compared with one another."""
    corpus: CorpusConfig
    """Sources, filters, held-out shares."""
    tokens: TokensConfig | None = None
    """Tokenizer, mixture and packing; absent: documents only."""
    execution: ExecutionConfig = ExecutionConfig()
    """Store, scratch directory and, as ``threads``, workers."""


def store_of(config: DataConfig) -> Store:
    """The artifact store."""
    return Store(config.execution.store, config.execution.scratch)


def build_corpus(
    config: DataConfig, store: Store, transform: Transform, partitions: OpenPartitions, validate: Validate, report: Report
) -> Built:
    """Build the corpus, or find it. Raises as :func:`modelyard.data.corpus.build.run`."""
    roots = config.execution.roots
    spec = Spec(
        corpus.NAME, corpus.defined(config.corpus, store, roots), {}, checked_code((corpus.__name__, CHECKED_BY), expectations.SUITES)
    )
    return store.build(spec, lambda out, _: corpus.run(config.corpus, {}, out, report, transform, partitions, validate, store, roots))


def build_tokens(config: DataConfig, store: Store, made: Artifact, report: Report) -> Built | None:
    """Build the token files of the corpus ``made``, or find them; None where the config asks for none."""
    tokens = config.tokens
    if tokens is None:
        return None
    spec = Spec(token_files.NAME, tokens, {corpus.NAME: made}, checked_code((token_files.__name__,), ()))
    return store.build(spec, lambda out, _: token_files.run(tokens, {corpus.NAME: store.fetch(made)}, out, report))
