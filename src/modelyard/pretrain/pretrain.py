"""Pretraining: next-token prediction on packed text, from random weights.

One call on every rank of a worker group. Resumes from its newest checkpoint; the result is bit for bit the one an uninterrupted run gives at the
same layout. Needs the sealed forecast among its inputs: no main run starts before its loss has been predicted (GPT-4 report, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.training.recipe import Recipe, train_language_model
from modelyard.progress import Report


class PretrainConfig(Recipe):
    """The main run."""

    kind: Literal["pretrain"] = "pretrain"
    """A base model trained from random weights."""

    @property
    def seq_len(self) -> int:
        """Longest sequence of the model."""
        return self.model.seq_len


def run(
    config: PretrainConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train on ``inputs["tokens"]`` and write the model to ``out``; metrics: first, last and held-out loss in nats a token."""
    if "forecast" not in inputs:
        raise ValueError("base: no sealed forecast among the inputs; run the forecast stage first")
    trained = train_language_model(config, inputs["tokens"], "base", checkpoints, execution, report)
    model_directory.write(trained.engine, inputs["tokens"], trained.history, out)
    return {
        "base/train/first_loss": trained.history.lines[0]["base/train/loss"],
        "base/train/loss": trained.history.lines[-1]["base/train/loss"],
        "base/train/tokens": float(config.tokens),
        "base/train/flops": config.compute,
        **trained.held_out.flat("base/validation/loss"),
    }
