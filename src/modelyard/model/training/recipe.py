"""A language model's training recipe, and training by it. The main run and every run of the scaling ladder are one recipe at different sizes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pydantic import model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.model.network.architecture import ModelConfig, Precision
from modelyard.model.training import trainer
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.spikes import SpikeConfig
from modelyard.model.training.token_data import TokenBatches, held_out_loss, language_model_loss
from modelyard.progress import Report
from modelyard.stats.estimate import Estimate


class Recipe(Config):
    """One training run from random weights."""

    model: ModelConfig
    """Shape and style."""
    optimizer: OptimizerConfig
    """AdamW and its schedule."""
    precision: Precision
    """``bf16`` needs a machine with native bfloat16 to be fast."""
    steps: int
    """Optimizer steps."""
    batch: int
    """Sequences of one optimizer step, over all ranks."""
    micro_batch: int
    """Sequences of one forward and backward on one rank."""
    seed: int
    """Of initial weights and data order."""
    spike: SpikeConfig | None = None
    """When a step is not taken because its loss stands out; absent: never."""

    @model_validator(mode="after")
    def _divides(self) -> Recipe:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.micro_batch < 1 or self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is not divisible by micro_batch {self.micro_batch}")
        return self

    @property
    def tokens(self) -> int:
        """Training tokens of the whole run."""
        return self.steps * self.batch * self.model.seq_len

    @property
    def compute(self) -> float:
        """Training FLOPs of the whole run."""
        return self.model.flops_per_token() * self.tokens


class Trained(NamedTuple):
    """A finished run: the engine with its weights, the logged history, the held-out loss (nats a token)."""

    engine: Engine
    history: trainer.History
    held_out: Estimate


def train_language_model(
    recipe: Recipe,
    tokens: Path,
    stage: str,
    checkpoints: Path,
    execution: ExecutionConfig,
    report: Report,
    measured_rows: int | None = None,
) -> Trained:
    """Train by ``recipe`` on ``tokens/train.npy``, resuming from ``checkpoints``, and measure on ``tokens/validation.npy``.

    ``measured_rows``: sequences measured at once where the recipe's batch is too small to be fast; the loss does not depend on it.
    """
    engine = Engine(
        recipe.model,
        execution,
        seed=recipe.seed,
        precision=recipe.precision,
        optim=recipe.optimizer,
        total_steps=recipe.steps,
    )
    batches = TokenBatches(tokens / "train.npy", recipe.batch, recipe.seed)
    if batches.array.shape[1] != recipe.model.seq_len + 1:
        raise ValueError(f"{tokens / 'train.npy'}: rows of {batches.array.shape[1]} tokens do not fit model.seq_len {recipe.model.seq_len}")
    history = trainer.train(
        engine,
        batches,
        steps=recipe.steps,
        micro_batch=recipe.micro_batch,
        loss_fn=language_model_loss,
        stage=stage,
        checkpoints=checkpoints,
        execution=execution,
        report=report,
        unit="token",
        units_per_step=recipe.batch * recipe.model.seq_len,
        spike=recipe.spike,
    )
    return Trained(engine, history, held_out_loss(engine, tokens / "validation.npy", measured_rows or recipe.batch, recipe.seed))
