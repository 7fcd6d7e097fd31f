"""Supervised fine-tuning task."""

from __future__ import annotations

from modelyard.posttrain import feedme, selection, sft
from modelyard.store.artifacts import Artifact, Built
from tasks.build import Place, stage_task
from tasks.training import TIMEOUT_SECONDS, train


@stage_task(name="sft", task_run_name="sft", timeout_seconds=TIMEOUT_SECONDS)
def sft_task(config: sft.SFTConfig, place: Place, base: Artifact, feedback: Artifact, tokens: Artifact) -> Built:
    """Fine-tune the base model on demonstrations."""
    return train("sft", sft.run, config, {"base": base, "feedback": feedback, "tokens": tokens}, place)


@stage_task(name="selection", task_run_name="selection", timeout_seconds=TIMEOUT_SECONDS)
def selection_task(config: selection.SelectionConfig, place: Place, sft: Artifact, reward: Artifact, feedback: Artifact) -> Built:
    """Choose among the epochs of SFT by reward-model score."""
    return train("selected", selection.run, config, {"sft": sft, "reward": reward, "feedback": feedback}, place)


@stage_task(name="feedme", task_run_name="feedme", timeout_seconds=TIMEOUT_SECONDS)
def feedme_task(config: feedme.FeedMEConfig, place: Place, sft: Artifact, reward: Artifact, feedback: Artifact) -> Built:
    """Gather the SFT model's own best answers as demonstrations."""
    return train("feedme", feedme.run, config, {"sft": sft, "reward": reward, "feedback": feedback}, place)
