"""The base model, after its forecast where it is pretrained here, and the forecast's judgement after the run."""

from __future__ import annotations

from prefect import flow

from flows.data import prepare_data
from flows.pipeline_config import Given, resolve
from flows.tracked import tracked
from tasks.line import Line
from tasks.scaling import judge_forecast_task, seal_task


def train_base(line: Line) -> None:
    """Forecast and seal, train, hold the sealed forecast against what came out. An imported model is only trained where that is asked for,
    and so is a twin on what holds no benchmark item."""
    line.build("continuations")
    line.build("forecast")
    if line.has("forecast"):
        seal_task(line.place, line.artifact("forecast"))
    line.build("base")
    if line.has("forecast"):
        judge_forecast_task(line.place, line.artifact("forecast"), line.artifact("base"))
    line.build("no_contam_tokens")
    line.build("no_contam")


@flow(name="pretrain", flow_run_name="pretrain")
@tracked
def pretrain_flow(config: Given) -> None:
    """Everything up to the base model.

    Args:
        config: the line, or its file with overrides.
    """
    line = Line(resolve(config))
    prepare_data(line)
    train_base(line)
