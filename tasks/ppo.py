"""Policy optimisation task."""

from __future__ import annotations

from modelyard.posttrain.ppo import loop as ppo
from modelyard.posttrain.ppo.config import PPOConfig
from modelyard.store.artifacts import Artifact, Built
from tasks.build import Place, stage_task
from tasks.training import TIMEOUT_SECONDS, train


@stage_task(name="ppo", task_run_name="ppo", timeout_seconds=TIMEOUT_SECONDS)
def ppo_task(
    config: PPOConfig, place: Place, sft: Artifact, reward: Artifact, feedback: Artifact, tokens: Artifact, rbrm: Artifact | None
) -> Built:
    """Optimise the SFT model against the reward model and, where there are any, rule-based rewards."""
    inputs = {"sft": sft, "reward": reward, "feedback": feedback, "tokens": tokens}
    return train("policy", ppo.run, config, inputs | ({"rbrm": rbrm} if rbrm else {}), place)
