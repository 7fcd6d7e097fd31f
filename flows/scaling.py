"""The forecast of the main run's loss, sealed before the run may start."""

from __future__ import annotations

from flows.pipeline_config import PipelineConfig
from modelyard.store.artifacts import Built
from tasks.build import Place
from tasks.scaling import forecast_task, seal_task


def predict_loss(config: PipelineConfig, place: Place, tokens: Built) -> Built:
    """Train the ladder, fit, seal. What is returned is sealed: pretraining takes it as input."""
    forecast = forecast_task(config.ladder, place, tokens.artifact, config.ladder_execution)
    seal_task(place, forecast.artifact)
    return forecast
