"""Raw text to a checked corpus, tokens and the contamination report."""

from __future__ import annotations

from typing import NamedTuple

from prefect import flow

from flows.pipeline_config import ConfigFile, PipelineConfig, resolve
from modelyard.artifacts import Built
from tasks.data import contamination_task, corpus_task, tokens_task
from tasks.stage import Place


class Data(NamedTuple):
    """What the data stage leaves."""

    corpus: Built
    tokens: Built
    contamination: Built


def prepare_data(config: PipelineConfig, place: Place) -> Data:
    """Corpus, then its tokens and its contamination report."""
    corpus = corpus_task(config.corpus, place)
    tokens = tokens_task(config.tokens, place, corpus.artifact)
    contamination = contamination_task(config.contamination, place, corpus.artifact)
    return Data(corpus, tokens, contamination)


@flow(name="data", flow_run_name="data")
def data_flow(config: PipelineConfig | ConfigFile) -> None:
    """The data stage alone."""
    config = resolve(config)
    prepare_data(config, Place(config.name, config.execution))
