"""The whole line: raw text to a promoted model. Read it from top to bottom.

Run it with ``modelyard run CONFIG [KEY=VALUE ...]``; the exit code is 0 only when the model was promoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.data import prepare_data
from flows.evals import measure, measure_production
from flows.imported import imported_flow
from flows.imported_config import ImportedConfig, load_imported
from flows.pipeline_config import ConfigFile, PipelineConfig, load_pipeline, resolve
from flows.posttrain import align
from flows.pretrain import train_base
from flows.release import release
from flows.scaling import predict_loss
from modelyard.config import read_tree
from tasks.build import Place
from tasks.release import early_gates_task, stopped
from tasks.session import run_from_terminal
from tasks.summary import summary_task


@flow(name="pipeline", flow_run_name="{config.name}")
def pipeline_flow(config: PipelineConfig | ConfigFile) -> None:
    """Build, align, measure and release a model; every stage that the store already has is skipped.

    Args:
        config: the line, or its file with overrides.
    """
    config = resolve(config)
    place = Place(config.name, config.execution)

    data = prepare_data(config, place)
    early_gates_task(config.release, place, data.corpus.artifact, data.contamination.artifact)
    forecast = predict_loss(config, place, data.tokens)
    base = train_base(config, place, data.tokens, forecast)
    models = align(config, place, data, base)
    results = measure(config, place, data, base, models)
    production = measure_production(config, place, data, models, results)
    released = release(config, place, data, forecast, base, models, results, production)

    stages = [*data, forecast, base, *filter(None, models), results, released.decided, *filter(None, [released.exported])]
    summary_task(place, stages, results, released.verdict, released.moved)
    if released.verdict.verdict != "PROMOTE":
        raise stopped(released.verdict)


def load_line(file: str, overrides: Sequence[str]) -> PipelineConfig | ImportedConfig:
    """The config in ``file``: of a line with an imported base where it names one, else of the whole line. Raises ConfigError."""
    return load_imported(file, overrides) if "base" in read_tree(Path(file)) else load_pipeline(file, overrides)


def run_line(config: PipelineConfig | ImportedConfig) -> None:
    """The flow of the config's kind."""
    if isinstance(config, ImportedConfig):
        imported_flow(config)
    else:
        pipeline_flow(config)


def run(file: str, overrides: Sequence[str]) -> int:
    """Run the line in ``file``, with a Prefect server for as long as it needs one; the exit code."""
    return run_from_terminal(file, overrides, load_line, run_line)
