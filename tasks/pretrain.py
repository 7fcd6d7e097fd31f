"""Pretraining task."""

from __future__ import annotations

from modelyard.pretrain import pretrain
from modelyard.store.artifacts import Artifact, Built
from tasks.build import Place, stage_task
from tasks.training import TIMEOUT_SECONDS, train


@stage_task(name="pretrain", task_run_name="pretrain", timeout_seconds=TIMEOUT_SECONDS)
def pretrain_task(config: pretrain.PretrainConfig, place: Place, tokens: Artifact, forecast: Artifact) -> Built:
    """Train the base model; its loss has been predicted by the sealed ``forecast``."""
    return train("base", pretrain.run, config, {"tokens": tokens, "forecast": forecast}, place)
