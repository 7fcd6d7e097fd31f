"""A run of a flow as one MLflow run, with its stages as children."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from flows.pipeline_config import Given, resolve
from tasks.asked_models import fetch_asked
from tasks.build import Place

R = TypeVar("R")


def tracked(function: Callable[[Given], R]) -> Callable[[Given], R]:
    """The flow function within the MLflow run of its line; what and how it computes is its config, where it
    runs is not shown there.
    """

    @wraps(function)
    def run(config: Given) -> R:
        config = resolve(config)
        fetch_asked(config)
        shown = config.model_dump(mode="json", exclude={"execution"})
        with Place(config.name, config.execution).tracker.line_run(config.name, shown):
            return function(config)

    return run
