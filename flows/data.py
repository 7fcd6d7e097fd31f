"""Raw text to a checked corpus, human feedback, tokens and the contamination report; and the watch over what comes in."""

from __future__ import annotations

from typing import NamedTuple

from prefect import flow

from flows.pipeline_config import ConfigFile, PipelineConfig, resolve
from modelyard.store.artifacts import Built
from tasks.build import Place
from tasks.data import announce_version_task, contamination_task, corpus_task, feedback_task, tokens_task, watch_task


class Data(NamedTuple):
    """What the data stage leaves."""

    corpus: Built
    feedback: Built
    tokens: Built
    contamination: Built


def prepare_data(config: PipelineConfig, place: Place) -> Data:
    """Corpus, then the human feedback, the tokens and the contamination report."""
    corpus = corpus_task(config.corpus, place)
    feedback = feedback_task(config.feedback, place, corpus.artifact)
    tokens = tokens_task(config.tokens, place, corpus.artifact)
    contamination = contamination_task(config.contamination, place, corpus.artifact, feedback.artifact)
    return Data(corpus, feedback, tokens, contamination)


@flow(name="data", flow_run_name="data of {config.name}")
def data_flow(config: PipelineConfig | ConfigFile) -> None:
    """The data stage alone; a new version of the data is announced.

    Args:
        config: the line, or its file with overrides.
    """
    config = resolve(config)
    data = prepare_data(config, Place(config.name, config.execution))
    if not all(built.cached for built in data):
        announce_version_task(config.name, data.corpus.artifact)


@flow(name="watch", flow_run_name="watch {inbox}")
def watch_flow(inbox: str, config: PipelineConfig | ConfigFile) -> None:
    """Announce files that were not there when somebody last looked.

    Args:
        inbox: path, directory or pattern with ``*`` to watch; local, ``s3://`` or ``hf://``.
        config: the line whose store remembers what was seen.
    """
    config = resolve(config)
    watch_task(inbox, Place(config.name, config.execution))
