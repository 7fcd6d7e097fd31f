"""A language model's training recipe, and training by it. The main run and every run of the scaling ladder are one recipe at different sizes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Self

from pydantic import model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats.token_rows import TokenRows, read_info
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training import trainer
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.spikes import SpikeConfig
from modelyard.model.training.token_data import TokenBatches, held_out_loss, language_model_loss
from modelyard.progress import Report
from modelyard.stats.estimate import Estimate


class Schedule(Config):
    """How a language model is trained on packed text, whatever its weights were before."""

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
    """Of data order and, where they are random, of initial weights."""
    spike: SpikeConfig | None = None
    """When a step is not taken because its loss stands out; absent: never."""

    @model_validator(mode="before")
    @classmethod
    def _no_adapters(cls, given: object) -> object:
        if isinstance(given, dict) and "lora" in given:
            raise ValueError("lora: adapters are for post-training (sft, reward, policy); a base model trains all its weights")
        return given

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.micro_batch < 1 or self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is not divisible by micro_batch {self.micro_batch}")
        return self


class Recipe(Schedule):
    """One training run from random weights."""

    model: ModelConfig
    """Shape and style."""

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
    """Train by ``recipe`` on the training rows of ``tokens``, resuming from ``checkpoints``, and measure on its validation rows.

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
    if (width := read_info(tokens).seq_len) != recipe.model.seq_len:
        raise ValueError(f"{tokens}: rows of {width + 1} tokens do not fit model.seq_len {recipe.model.seq_len}")
    return train_engine(engine, recipe, tokens, stage, checkpoints, execution, report, measured_rows)


def train_engine(
    engine: Engine,
    schedule: Schedule,
    tokens: Path,
    stage: str,
    checkpoints: Path,
    execution: ExecutionConfig,
    report: Report,
    measured_rows: int | None = None,
) -> Trained:
    """Train the weights of ``engine`` by ``schedule``; otherwise as :func:`train_language_model`.

    Raises:
        ValueError: rows longer than the model reads.
    """
    rows = TokenRows(tokens, "train")
    if rows.seq_len > engine.model.seq_len:
        raise ValueError(f"{tokens}: rows of {rows.width} tokens are too long for model.seq_len {engine.model.seq_len}")
    history = trainer.train(
        engine,
        TokenBatches(rows, schedule.batch, schedule.seed),
        steps=schedule.steps,
        micro_batch=schedule.micro_batch,
        loss_fn=language_model_loss,
        stage=stage,
        checkpoints=checkpoints,
        execution=execution,
        report=report,
        unit="token",
        units_per_step=schedule.batch * rows.seq_len,
        spike=schedule.spike,
    )
    held_out = held_out_loss(engine, TokenRows(tokens, "validation"), measured_rows or schedule.batch, schedule.seed)
    return Trained(engine, history, held_out)
