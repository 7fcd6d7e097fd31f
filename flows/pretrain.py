"""The main run, after its forecast, and the forecast's judgement after the run."""

from __future__ import annotations

from prefect import flow

from flows.data import prepare_data
from flows.pipeline_config import ConfigFile, PipelineConfig, resolve
from flows.scaling import predict_loss
from modelyard.store.artifacts import Built
from tasks.build import Place
from tasks.pretrain import pretrain_task
from tasks.scaling import judge_forecast_task


def train_base(config: PipelineConfig, place: Place, tokens: Built, forecast: Built) -> Built:
    """Pretrain, then hold the sealed forecast against what came out."""
    base = pretrain_task(config.pretrain, place, tokens.artifact, forecast.artifact)
    judge_forecast_task(place, forecast.artifact, base.artifact)
    return base


@flow(name="pretrain", flow_run_name="pretrain")
def pretrain_flow(config: PipelineConfig | ConfigFile) -> None:
    """Everything up to the base model.

    Args:
        config: the line, or its file with overrides.
    """
    config = resolve(config)
    place = Place(config.name, config.execution)
    data = prepare_data(config, place)
    train_base(config, place, data.tokens, predict_loss(config, place, data.tokens))
