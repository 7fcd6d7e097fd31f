"""Tasks in which a model judges: rule-based reward models and AI feedback."""

from __future__ import annotations

from modelyard.posttrain.judged import ai_feedback, rbrm
from modelyard.store.artifacts import Artifact, Built
from tasks.build import Place, stage_task
from tasks.training import TIMEOUT_SECONDS, train


@stage_task(name="rbrm", task_run_name="rbrm", timeout_seconds=TIMEOUT_SECONDS)
def rbrm_task(config: rbrm.RBRMConfig, place: Place, sft: Artifact, reward: Artifact) -> Built:
    """Measure the judge and fit the weights of the rules against the reward model."""
    return train("rbrm", rbrm.run, config, {"sft": sft, "reward": reward}, place)


@stage_task(name="ai_feedback", task_run_name="ai_feedback", timeout_seconds=TIMEOUT_SECONDS)
def ai_feedback_task(config: ai_feedback.AIFeedbackConfig, place: Place, sft: Artifact, feedback: Artifact) -> Built:
    """Add comparisons that a model makes to those of people."""
    return train("ai_feedback", ai_feedback.run, config, {"sft": sft, "feedback": feedback}, place)
