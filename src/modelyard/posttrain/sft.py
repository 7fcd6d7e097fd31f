"""Supervised fine-tuning on demonstrations: InstructGPT (arXiv:2203.02155, section 3.5 and appendix C.1).

Two kinds of demonstrations, dialogs and completions of review openings, with loss on completion tokens only, and pretraining text mixed
in, as for the model PPO starts from (appendix C.4: 2 epochs, 10% pretraining data). Left out here: residual dropout 0.2 and the choice
among checkpoints by reward-model score, which belong to the 16-epoch baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator

from modelyard.config import Config, ExecutionConfig
from modelyard.estimate import Estimate, bootstrap_mean
from modelyard.model import model_directory, trainer
from modelyard.model.architecture import Precision
from modelyard.model.encoder import Encoder
from modelyard.model.engine import Batch, Engine
from modelyard.model.optimizer import OptimizerConfig
from modelyard.model.spikes import SpikeConfig
from modelyard.posttrain.encoding import demonstration, read_demonstrations
from modelyard.posttrain.losses import sft_loss
from modelyard.posttrain.masking import Example, pad_examples
from modelyard.posttrain.sampling import length_grouped, pretraining_window
from modelyard.progress import Report


class SFTConfig(Config):
    """Supervised fine-tuning."""

    seed: int
    """Order of the examples."""
    precision: Precision
    """``fp32`` or ``bf16`` parameters."""
    epochs: float
    """Passes over the demonstrations (InstructGPT: 2 for the model PPO starts from)."""
    batch: int
    """Rows of a step."""
    micro_batch: int
    """Rows of one forward pass on one replica."""
    pretraining_share: float
    """Share of a batch's rows that are pretraining text (InstructGPT: 0.1)."""
    optimizer: OptimizerConfig
    """AdamW; InstructGPT decays by cosine to 10% without warm-up."""
    spike: SpikeConfig | None = None
    """When a step is not taken because its loss stands out; absent: never."""

    @model_validator(mode="after")
    def _fits(self) -> SFTConfig:
        if self.epochs <= 0:
            raise ValueError(f"epochs must be positive, got {self.epochs}")
        if not 0 <= self.pretraining_share < 1 or self.demonstrations_per_batch < 1:
            raise ValueError("pretraining_share must leave a batch at least one demonstration")
        if self.micro_batch < 1 or self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is not divisible by micro_batch {self.micro_batch}")
        return self

    @property
    def pretraining_per_batch(self) -> int:
        """Rows of pretraining text in a batch."""
        return round(self.batch * self.pretraining_share)

    @property
    def demonstrations_per_batch(self) -> int:
        """Rows of demonstrations in a batch."""
        return self.batch - self.pretraining_per_batch


def run(
    config: SFTConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Fine-tune ``inputs["base"]`` on the demonstrations of ``inputs["corpus"]`` mixed with text of ``inputs["tokens"]``."""
    encoder = Encoder(inputs["base"])
    encoder.require_same("tokens", inputs["tokens"])
    demonstrations = inputs["corpus"] / "demonstrations.jsonl"
    train, validation = (
        [demonstration(encoder, d) for d in read_demonstrations(demonstrations, split)] for split in ("train", "validation")
    )
    model = model_directory.read(inputs["base"]).model
    fitting, held_out = fit(train, model.seq_len), fit(validation, model.seq_len)
    steps = max(1, round(config.epochs * (len(fitting) // config.demonstrations_per_batch)))
    engine = model_directory.load(
        inputs["base"], execution, seed=config.seed, precision=config.precision, head="lm", optim=config.optimizer, total_steps=steps
    )
    before = validation_loss(engine, held_out, config.micro_batch, encoder.padding, config.seed)
    history = trainer.train(
        engine,
        batches(fitting, np.load(inputs["tokens"] / "train.npy", mmap_mode="r"), config, encoder.padding),
        steps=steps,
        micro_batch=config.micro_batch,
        loss_fn=sft_loss,
        stage="sft",
        checkpoints=checkpoints,
        execution=execution,
        report=report,
        spike=config.spike,
    )
    model_directory.write(engine, inputs["base"], history, out)
    after = validation_loss(engine, held_out, config.micro_batch, encoder.padding, config.seed)
    return {
        **after.flat("sft/validation/loss"),
        "sft/validation/base_loss": before.value,
        "sft/train/loss": history.lines[-1]["sft/train/loss"],
        "sft/data/examples": float(len(fitting)),
        "sft/data/too_long": float(len(train) - len(fitting)),
    }


def fit(examples: Sequence[Example], seq_len: int) -> list[Example]:
    """The examples that fit in a row of ``seq_len`` positions; raises ValueError if none does."""
    fitting = [example for example in examples if len(example.prompt) + len(example.completion) - 1 <= seq_len]
    if not fitting:
        raise ValueError(f"no example fits in seq_len {seq_len}")
    return fitting


def batches(examples: Sequence[Example], pretraining: NDArray[np.uint16], config: SFTConfig, pad_id: int) -> Callable[[int], Batch]:
    """Step -> batch: demonstrations of similar length first, then pretraining rows cut to the batch's width."""
    size, mixed = config.demonstrations_per_batch, config.pretraining_per_batch
    lengths = [len(example.prompt) + len(example.completion) for example in examples]
    if len(examples) < size:
        raise ValueError(f"{len(examples)} demonstrations do not fill one batch of {size}")

    @lru_cache(maxsize=2)
    def grouped(epoch: int) -> list[list[int]]:
        return length_grouped(lengths, size, np.random.default_rng([config.seed, epoch]))

    def batch(step: int) -> Batch:
        epoch, place = divmod(step, len(examples) // size)
        rows = pad_examples([examples[i] for i in grouped(epoch)[place]], pad_id)
        text = torch.from_numpy(pretraining_window(pretraining, step * mixed, mixed, rows.tokens.shape[1]))
        return Batch(
            torch.cat([rows.tokens, text[:, :-1]]),
            torch.cat([rows.labels, text[:, 1:]]),
            {"mask": torch.cat([rows.mask, torch.ones(mixed, rows.mask.shape[1])])},
        )

    return batch


def validation_loss(engine: Engine, examples: Sequence[Example], micro_batch: int, pad_id: int, seed: int) -> Estimate:
    """-log p a completion token, in nats; the interval is a bootstrap over examples with their token counts taken as fixed."""
    rows = pad_examples(examples, pad_id)
    logprobs = engine.evaluate(Batch(rows.tokens, rows.labels, {}), micro_batch).cpu()
    tokens_per_example = float(rows.mask.sum()) / len(examples)
    return bootstrap_mean((-(logprobs * rows.mask).sum(dim=1) / tokens_per_example).tolist(), seed)
