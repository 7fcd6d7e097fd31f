"""Reward model and scorer task."""

from __future__ import annotations

from modelyard.posttrain import reward
from modelyard.store.artifacts import Artifact, Built
from tasks.build import Place, stage_task
from tasks.training import TIMEOUT_SECONDS, train


@stage_task(name="reward", task_run_name="{config.split}", timeout_seconds=TIMEOUT_SECONDS)
def reward_task(config: reward.RewardConfig, place: Place, body: Artifact, feedback: Artifact) -> Built:
    """Train a scalar head on human comparisons: the reward model or, by its config's split, the scorer."""
    return train(config.split, reward.run, config, {"body": body, "feedback": feedback}, place)
