"""Base model to policy: demonstrations, human comparisons, PPO. The scorer is trained here and shown to evals only."""

from __future__ import annotations

from typing import NamedTuple

from flows.data import Data
from flows.pipeline_config import PipelineConfig
from modelyard.artifacts import Built
from tasks.ppo import ppo_task
from tasks.reward import reward_task
from tasks.sft import sft_task
from tasks.stage import Place


class Aligned(NamedTuple):
    """Models that post-training leaves."""

    sft: Built
    reward: Built
    scorer: Built
    policy: Built


def align(config: PipelineConfig, place: Place, data: Data, base: Built) -> Aligned:
    """SFT, reward model on it, scorer on the base model (another body, other raters and items), PPO."""
    feedback, tokens = data.feedback.artifact, data.tokens.artifact
    sft = sft_task(config.sft, place, base.artifact, feedback, tokens)
    reward = reward_task(config.reward, place, sft.artifact, feedback)
    scorer = reward_task(config.scorer, place, base.artifact, feedback)
    policy = ppo_task(config.ppo, place, sft.artifact, reward.artifact, feedback, tokens)
    return Aligned(sft, reward, scorer, policy)
