"""Scaling tasks: the forecast, sealed in the store and in MLflow, and its judgement once the main run is over."""

from __future__ import annotations

import json

from prefect import task

from modelyard.artifacts import Artifact, Built
from modelyard.config import ExecutionConfig
from modelyard.scaling import ladder
from tasks.stage import Place
from tasks.training import TIMEOUT_SECONDS, train


@task(name="forecast", task_run_name="forecast", tags=["scaling"], timeout_seconds=TIMEOUT_SECONDS)
def forecast_task(config: ladder.ScalingConfig, place: Place, tokens: Artifact, execution: ExecutionConfig) -> Built:
    """Train the ladder and predict the main run's loss."""
    return train("forecast", ladder.run, config, {"tokens": tokens}, place, execution)


@task(name="seal forecast", task_run_name="seal forecast", tags=["scaling"], retries=2, timeout_seconds=300)
def seal_task(place: Place, forecast: Artifact) -> Artifact:
    """Write the prediction into MLflow before what it predicts may start."""
    content = json.loads((place.store.fetch(forecast) / "forecast.json").read_text())
    place.tracker.seal(forecast, place.link(forecast), content)
    return forecast
