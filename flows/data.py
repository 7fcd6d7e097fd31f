"""Raw text to a checked corpus, human feedback, tokens and the contamination report; and the watch over what comes in."""

from __future__ import annotations

from prefect import flow

from flows.pipeline_config import Given, resolve
from flows.tracked import tracked
from tasks.build import Place
from tasks.data import announce_version_task, drift_task, watch_task
from tasks.line import Line


def prepare_data(line: Line) -> None:
    """Corpus, what is held out of it, human feedback, benchmarks and what a stronger model teaches, then the tokens (of the imported model's
    tokenizer where there is one) and the contamination report."""
    line.build("corpus")
    drift_task(line.place, line.artifact("corpus"))
    line.build("held_out")
    line.build("feedback")
    line.build("benchmarks", "harm_labels")
    line.build("imported")
    line.build("instructions")
    line.build("tokens", "contamination")


@flow(name="data", flow_run_name="data of {config.name}")
@tracked
def data_flow(config: Given) -> None:
    """The data stage alone; a new version of the data is announced.

    Args:
        config: the line, or its file with overrides.
    """
    line = Line(resolve(config))
    prepare_data(line)
    if not all(built.cached for built in line.built.values()):
        announce_version_task(line.place.line, line.artifact("corpus"))


@flow(name="watch", flow_run_name="watch {inbox}")
def watch_flow(inbox: str, config: Given) -> None:
    """Announce files that were not there when somebody last looked.

    Args:
        inbox: path, directory or pattern with ``*`` to watch; local, ``s3://`` or ``hf://``.
        config: the line whose store remembers what was seen.
    """
    config = resolve(config)
    watch_task(inbox, Place(config.name, config.execution))
