"""A run of a flow as one MLflow run, with its stages as children."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from flows.pipeline_config import ConfigFile, PipelineConfig, resolve
from tasks.asked_models import fetch_asked
from tasks.build import Place

LineFlow = Callable[[PipelineConfig | ConfigFile], None]


def tracked(function: LineFlow) -> LineFlow:
    """The flow function within the MLflow run of its line; what and how it computes is its config, where it
    runs is not shown there.
    """

    @wraps(function)
    def run(config: PipelineConfig | ConfigFile) -> None:
        config = resolve(config)
        fetch_asked(config)
        shown = config.model_dump(mode="json", exclude={"execution"})
        with Place(config.name, config.execution).tracker.line_run(config.name, shown):
            function(config)

    return run
