"""Supervised fine-tuning task."""

from __future__ import annotations

from modelyard.artifacts import Artifact, Built
from modelyard.posttrain import sft
from tasks.stage import Place, stage_task
from tasks.training import TIMEOUT_SECONDS, train


@stage_task(name="sft", task_run_name="sft", tags=["posttrain"], timeout_seconds=TIMEOUT_SECONDS)
def sft_task(config: sft.SFTConfig, place: Place, base: Artifact, feedback: Artifact, tokens: Artifact) -> Built:
    """Fine-tune the base model on demonstrations."""
    return train("sft", sft.run, config, {"base": base, "feedback": feedback, "tokens": tokens}, place)
