"""Base model to policy: demonstrations, human comparisons, PPO. The scorer is trained here and shown to evals only."""

from __future__ import annotations

from typing import NamedTuple

from flows.data import Data
from flows.pipeline_config import PipelineConfig
from modelyard.store.artifacts import Built
from tasks.build import Place
from tasks.ppo import ppo_task
from tasks.reward import reward_task
from tasks.rubrics import ai_feedback_task, rbrm_task
from tasks.sft import sft_task


class Aligned(NamedTuple):
    """Models that post-training leaves."""

    sft: Built
    ai_feedback: Built | None
    """Comparisons that a model made, where the line asks for any."""
    reward: Built
    scorer: Built
    rbrm: Built | None
    """Rule-based rewards, where the line has any."""
    policy: Built


def align(config: PipelineConfig, place: Place, data: Data, base: Built) -> Aligned:
    """SFT, reward model on it, scorer on the base model (another body, other raters and items), PPO."""
    feedback, tokens = data.feedback.artifact, data.tokens.artifact
    sft = sft_task(config.sft, place, base.artifact, feedback, tokens)
    made = ai_feedback_task(config.ai_feedback, place, sft.artifact, feedback) if config.ai_feedback else None
    reward = reward_task(config.reward, place, sft.artifact, made.artifact if made else feedback)
    scorer = reward_task(config.scorer, place, base.artifact, feedback)
    rbrm = rbrm_task(config.rbrm, place, sft.artifact, reward.artifact) if config.rbrm else None
    policy = ppo_task(config.ppo, place, sft.artifact, reward.artifact, feedback, tokens, rbrm.artifact if rbrm else None)
    return Aligned(sft, made, reward, scorer, rbrm, policy)
