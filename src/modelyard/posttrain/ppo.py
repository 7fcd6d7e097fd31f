"""PPO-ptx: InstructGPT (arXiv:2203.02155, section 3.5, eq. 2, appendix C.4) on the engine that trains everything else.

An iteration samples completions of review openings, scores them with the frozen reward model, and makes one pass of minibatches over
them: the clipped policy loss together with gamma times the loss on pretraining text (one gradient), and the clipped value loss of a
separate value model that starts as the reward model. KL to the frozen SFT model is charged per token. Stops when KL blows up. Published
values stand beside ours in :class:`PPOConfig`. Left out: an adaptive KL coefficient (the paper's is fixed), an entropy bonus, shared
policy and value bodies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator

from modelyard.config import Config, ExecutionConfig
from modelyard.estimate import bootstrap_mean
from modelyard.model import checkpoint, model_directory, trainer
from modelyard.model.architecture import Head, Precision
from modelyard.model.encoder import Encoder
from modelyard.model.engine import Batch, Engine
from modelyard.model.optimizer import OptimizerConfig
from modelyard.model.sample_order import epoch_indices
from modelyard.posttrain import rollout as experience
from modelyard.posttrain.encoding import read_prompts
from modelyard.posttrain.losses import policy_loss, value_loss
from modelyard.posttrain.rewards import sequence_kl
from modelyard.posttrain.rollout import Models, Rollout, SamplingConfig
from modelyard.posttrain.sampling import pretraining_window
from modelyard.progress import Report


class PPOConfig(Config):
    """PPO-ptx. InstructGPT warms the learning rate up over 10 iterations from 1/10: ``optimizer.warmup_steps`` counts minibatches."""

    seed: int
    """Prompts, samples and order of minibatches."""
    precision: Precision
    """``fp32`` or ``bf16`` parameters."""
    iterations: int
    """Rounds of sampling and training (InstructGPT: 256k episodes = 500 rounds)."""
    episodes: int
    """Completions sampled in an iteration (InstructGPT: 512)."""
    minibatches: int
    """Optimizer steps of an iteration, one pass over its episodes (InstructGPT: 8 of 64 episodes, one inner epoch)."""
    micro_batch: int
    """Rows of one forward pass on one replica."""
    max_new_tokens: int
    """Longest completion."""
    temperature: float
    """Sampling temperature (InstructGPT: 1; log-probabilities are always those at 1)."""
    kl_coef: float
    """Beta, charge per nat of KL to the SFT model (InstructGPT: 0.02, for its reward model's scale)."""
    kl_stop: float
    """Mean KL of an iteration's sequences, in nats, above which training stops."""
    on_kl_stop: Literal["stop", "error"]
    """``stop`` keeps the policy as it is and ends the loop; ``error`` fails the run."""
    gae_lambda: float
    """Lambda of GAE (not published for InstructGPT)."""
    clip_range: float
    """Clip of the policy's ratio (InstructGPT: 0.2)."""
    value_clip_range: float
    """How far from its old value a value may move within an iteration (InstructGPT: 0.2)."""
    ptx_coef: float
    """Gamma on the mean loss of pretraining tokens (InstructGPT: 27.8, against its own normalisation; 0 is plain PPO)."""
    ptx_rows: int
    """Rows of pretraining text in a minibatch, as wide as its longest episode (InstructGPT: 8 times the episodes)."""
    ema_decay: float
    """Decay of the released weights' moving average over iterations (InstructGPT: 0.992); 0 releases the last weights."""
    final_episodes: int
    """Completions sampled from the finished policy to measure KL and reward."""
    final_rows: int
    """Rows of validation tokens on which the language model's loss is measured before and after."""
    optimizer: OptimizerConfig
    """AdamW of the policy (its learning rate was not published for the released models)."""
    value_optimizer: OptimizerConfig
    """AdamW of the value model (InstructGPT: 9e-6)."""

    @model_validator(mode="after")
    def _fits(self) -> PPOConfig:
        if self.minibatches < 1 or self.episodes % self.minibatches:
            raise ValueError(f"episodes {self.episodes} is not divisible by minibatches {self.minibatches}")
        if self.micro_batch < 1 or self.minibatch % self.micro_batch or self.ptx_rows % self.micro_batch:
            raise ValueError(f"minibatch {self.minibatch} and ptx_rows {self.ptx_rows} must be multiples of micro_batch {self.micro_batch}")
        if (self.ptx_coef > 0) != (self.ptx_rows > 0):
            raise ValueError("ptx_coef and ptx_rows must both be positive or both be 0")
        if self.temperature != 1 or self.iterations < 1 or self.max_new_tokens < 1:
            raise ValueError(
                "temperature must be 1 (the KL is measured under the sampling distribution), iterations and max_new_tokens >= 1"
            )
        if not 0 <= self.ema_decay < 1 or not 0 <= self.gae_lambda <= 1:
            raise ValueError("ema_decay must lie in [0, 1) and gae_lambda in [0, 1]")
        return self

    @property
    def minibatch(self) -> int:
        """Episodes of an optimizer step."""
        return self.episodes // self.minibatches


class KLBlowUpError(RuntimeError):
    """The policy left the SFT model further than ``kl_stop`` allows."""


class Training(NamedTuple):
    """The trained engines with the data they read."""

    models: Models
    ema: Engine | None
    prompts: list[list[int]]
    pretraining: NDArray[np.uint16]
    sampling: SamplingConfig


def run(
    config: PPOConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train ``inputs["sft"]`` against ``inputs["reward"]`` on the prompts of ``inputs["corpus"]``, ptx text from ``inputs["tokens"]``."""
    training = prepare(config, inputs, execution)
    history = train(config, training, checkpoints, execution, report)
    released = training.ema or training.models.actor
    model_directory.write(released, inputs["sft"], history, out)
    models = training.models._replace(actor=released)
    return {
        **final_samples(config, models, training),
        **language_model_loss(config, models, np.load(inputs["tokens"] / "validation.npy", mmap_mode="r")),
        "ppo/train/iterations": float(len(history.lines)),
    }


def prepare(config: PPOConfig, inputs: Mapping[str, Path], execution: ExecutionConfig) -> Training:
    """Actor, reference and EMA from the SFT model, reward and value from the reward model."""
    steps = config.iterations * config.minibatches

    def opened(role: str, optim: OptimizerConfig | None = None) -> Engine:
        head: Head = "lm" if role == "sft" else "scalar"
        return model_directory.load(
            inputs[role], execution, seed=config.seed, precision=config.precision, head=head, total_steps=steps, optim=optim
        )

    encoder = Encoder(inputs["sft"])
    for role in ("reward", "tokens"):
        encoder.require_same(role, inputs[role])
    models = Models(opened("sft", optim=config.optimizer), opened("sft"), opened("reward"), opened("reward", optim=config.value_optimizer))
    return Training(
        models=models,
        ema=opened("sft") if config.ema_decay else None,
        prompts=[encoder.opening(prompt) for prompt in read_prompts(inputs["corpus"] / "prompts.jsonl")],
        pretraining=np.load(inputs["tokens"] / "train.npy", mmap_mode="r"),
        sampling=SamplingConfig(config.max_new_tokens, config.temperature, encoder.document_end, encoder.padding, config.micro_batch),
    )


def train(config: PPOConfig, training: Training, checkpoints: Path, execution: ExecutionConfig, report: Report) -> trainer.History:
    """The loop, from the newest checkpoint on. Raises KLBlowUpError where the config asks for an error."""
    history = resume(training, checkpoints, execution)
    report(len(history.lines), config.iterations, unit="iteration")
    with trainer.checkpoints_written():
        for iteration in range(len(history.lines), config.iterations):
            rollout = sampled(config, training, iteration)
            metrics = experience.statistics(rollout, config.kl_coef)
            blown = metrics["objective/kl"] > config.kl_stop
            if blown and config.on_kl_stop == "error":
                raise KLBlowUpError(
                    f"iteration {iteration}: KL {metrics['objective/kl']:.2f} nats exceeds ppo.kl_stop {config.kl_stop:g}; "
                    "raise ppo.kl_coef or lower ppo.optimizer.lr"
                )
            if blown:
                break
            metrics |= update(config, training, rollout, iteration)
            named = {f"ppo/{key}": value for key, value in metrics.items()}
            history.add(iteration + 1, named)
            report(iteration + 1, config.iterations, named, unit="iteration")
            if iteration + 1 == config.iterations:
                break
            preempted = trainer.stop_agreed(training.models.actor)
            if preempted or (iteration + 1) % execution.checkpoint_iterations == 0:
                keep(training, checkpoints, history, execution)
            if preempted:
                checkpoint.wait()
                raise preempted
    return history


def sampled(config: PPOConfig, training: Training, iteration: int) -> Rollout:
    """The experience of one iteration."""
    chosen = epoch_indices(len(training.prompts), config.seed, iteration * config.episodes, config.episodes)
    return experience.sample(training.models, [training.prompts[i] for i in chosen], seed_of(config, iteration), training.sampling)


def seed_of(config: PPOConfig, iteration: int) -> int:
    """Seed of an iteration's samples; -1 is the final measurement's."""
    return int(np.random.SeedSequence([config.seed, iteration + 1]).generate_state(1)[0])


def update(config: PPOConfig, training: Training, rollout: Rollout, iteration: int) -> dict[str, float]:
    """One pass of minibatches over the experience; returns the metrics' means."""
    collected: list[dict[str, float]] = []
    actor, value = training.models.actor, training.models.value
    for policy_batch, value_batch in minibatches(config, training.pretraining, rollout, iteration):
        step = actor.train_step(policy_batch, config.micro_batch, policy_loss(config.clip_range, config.ptx_coef))
        value_step = value.train_step(value_batch, config.micro_batch, value_loss(config.value_clip_range))
        step |= {"policy/grad_norm": step.pop("grad_norm"), "policy/lr": step.pop("lr")}
        step |= {key: number for key, number in value_step.items() if key.startswith("value/")}
        collected.append({key: number for key, number in step.items() if key != "loss"})
    if training.ema is not None:
        follow(training.ema, actor, config.ema_decay)
    return {key: sum(step[key] for step in collected) / len(collected) for key in collected[0]}


def minibatches(config: PPOConfig, pretraining: NDArray[np.uint16], rollout: Rollout, iteration: int) -> Iterator[tuple[Batch, Batch]]:
    """Policy batch (episodes, then pretraining rows) and value batch (episodes) of every optimizer step."""
    estimated = experience.advantages(rollout, config.kl_coef, config.gae_lambda)
    order = np.random.default_rng([config.seed, iteration]).permutation(config.episodes)
    width = rollout.rows.tokens.shape[1]
    for number in range(config.minibatches):
        chosen = torch.from_numpy(order[number * config.minibatch : (number + 1) * config.minibatch])
        tokens, labels, mask = (part[chosen] for part in rollout.rows)
        value_extras = {"mask": mask, "old_values": rollout.values[chosen], "returns": estimated.returns[chosen]}
        start = (iteration * config.minibatches + number) * config.ptx_rows
        text = torch.from_numpy(pretraining_window(pretraining, start, config.ptx_rows, width))
        empty, full = torch.zeros(config.ptx_rows, width), torch.ones(config.ptx_rows, width)
        scale = float(mask.sum()) / max(1, full.numel())
        policy_extras = {
            "mask": torch.cat([mask, empty]),
            "old_logprobs": torch.cat([rollout.logprobs[chosen], empty]),
            "advantages": torch.cat([estimated.advantages[chosen], empty]),
            "ptx_scale": torch.cat([torch.zeros_like(mask), full * scale]),
        }
        policy = Batch(torch.cat([tokens, text[:, :-1]]), torch.cat([labels, text[:, 1:]]), policy_extras)
        yield policy, Batch(tokens, labels, value_extras)


def follow(ema: Engine, actor: Engine, decay: float) -> None:
    """Move the averaged weights by (1 - decay) towards the actor's."""
    with torch.no_grad():
        for averaged, current in zip(ema.gpt.parameters(), actor.gpt.parameters(), strict=True):
            averaged.lerp_(current.detach().to(averaged.dtype), 1 - decay)


def resume(training: Training, checkpoints: Path, execution: ExecutionConfig) -> trainer.History:
    """Load the newest step at which every model's checkpoint is whole; the actor's is written last."""
    beside = ["value"] if training.ema is None else ["value", "ema"]
    history = trainer.resume(training.models.actor, checkpoints / "actor", execution, *(checkpoints / name for name in beside))
    if history.lines:
        step = checkpoint.step_directory(Path(), training.models.actor.step)
        training.models.value.load(checkpoints / "value" / step)
        if training.ema is not None:
            training.ema.load_weights(checkpoints / "ema" / step)
    return history


def keep(training: Training, checkpoints: Path, history: trainer.History, execution: ExecutionConfig) -> None:
    """Checkpoint everything that changes, the actor last."""
    step = training.models.actor.step
    if training.ema is not None:
        trainer.keep(training.ema, checkpoints / "ema", step, trainer.History(), execution)
    trainer.keep(training.models.value, checkpoints / "value", step, trainer.History(), execution)
    trainer.keep(training.models.actor, checkpoints / "actor", step, history, execution)


def final_samples(config: PPOConfig, models: Models, training: Training) -> dict[str, float]:
    """KL, reward and the signs of hacking of the released policy on fresh samples, beside the SFT model's reward on the same prompts."""
    chosen = epoch_indices(len(training.prompts), config.seed + 1, 0, config.final_episodes)
    prompts = [training.prompts[i] for i in chosen]
    rollout = experience.sample(models, prompts, seed_of(config, -1), training.sampling)
    before = experience.sample(models._replace(actor=models.reference), prompts, seed_of(config, -1), training.sampling)
    kl = sequence_kl(rollout.logprobs, rollout.reference_logprobs, rollout.rows.mask).tolist()
    measured = {f"ppo/{key}": number for key, number in experience.statistics(rollout, config.kl_coef).items()}
    reference = {f"ppo/reference/{key.split('/')[1]}": number for key, number in experience.statistics(before, config.kl_coef).items()}
    return {
        **reference,
        **measured,
        **bootstrap_mean(kl, config.seed).flat("ppo/objective/kl"),
        **bootstrap_mean(rollout.scores.tolist(), config.seed).flat("ppo/objective/reward"),
    }


def language_model_loss(config: PPOConfig, models: Models, validation: NDArray[np.uint16]) -> dict[str, float]:
    """Loss on validation tokens of the policy and of the SFT model it started from: what ptx is to keep."""
    rows = torch.from_numpy(validation[: config.final_rows].astype(np.int64))
    batch = Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), {})
    after, before = (per_row(engine, batch, config.micro_batch) for engine in (models.actor, models.reference))
    change = [a / b - 1 for a, b in zip(after, before, strict=True)]
    return {
        **bootstrap_mean(after, config.seed).flat("ppo/ptx/loss"),
        "ppo/ptx/reference_loss": sum(before) / len(before),
        **bootstrap_mean(change, config.seed).flat("ppo/ptx/relative_change"),
    }


def per_row(engine: Engine, batch: Batch, micro_batch: int) -> Sequence[float]:
    """Mean -log p of every row."""
    return [-value for value in engine.evaluate(batch, micro_batch).mean(dim=1).tolist()]
