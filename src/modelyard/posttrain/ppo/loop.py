"""PPO-ptx: InstructGPT (arXiv:2203.02155, section 3.5, eq. 2, appendix C.4) on the engine that trains everything else.

An iteration samples completions of review openings, scores them with the frozen reward model, and makes one pass of minibatches over
them: the clipped policy loss together with gamma times the loss on a batch of pretraining text of its own (one gradient), and the clipped
value loss of a separate value model that starts as the reward model. All four models live on the same ranks. KL to the frozen SFT model is
charged per token. Stops when KL blows up, or when generation and training disagree about log-probabilities. Published values stand beside
ours in :class:`~modelyard.posttrain.ppo.config.PPOConfig`. Left out: an entropy bonus, shared policy and
value bodies, more than one inner epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import PROMPTS, PromptRecord, prompt_text, read
from modelyard.formats.token_rows import Rows, TokenRows
from modelyard.model import model_directory
from modelyard.model.checkpoints import checkpoint
from modelyard.model.encoder import Encoder
from modelyard.model.network.architecture import Head, Precision
from modelyard.model.training import trainer
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.sample_order import epoch_indices
from modelyard.posttrain.judged.rules import RuleBasedReward, Ruled, opened_rules
from modelyard.posttrain.losses import policy_loss, value_loss
from modelyard.posttrain.ppo import rollout as experience
from modelyard.posttrain.ppo.config import PPOConfig
from modelyard.posttrain.ppo.kl_control import coefficient
from modelyard.posttrain.ppo.measure import final_samples, language_model_loss
from modelyard.posttrain.ppo.rollout import Models, Rollout, SamplingConfig
from modelyard.posttrain.rows.encoding import closing, fitting_prompts
from modelyard.progress import Report

DRIFT_LIMIT: dict[Precision, float] = {"fp32": 1e-3, "bf16": 0.1}
"""Mean |log p in generation - log p in training| of sampled tokens, nats, above which the two are not the same model."""


class KLBlowUpError(RuntimeError):
    """The policy left the SFT model further than ``kl_stop`` allows."""


class GenerationDriftError(RuntimeError):
    """Generation gives sampled tokens other log-probabilities than the training forward: every ratio would be wrong."""


class Training(NamedTuple):
    """The trained engines with the data they read."""

    models: Models
    ema: Engine | None
    """The actor's averaged weights in fp32; None: not averaged."""
    prompts: list[list[int]]
    asked: list[PromptRecord]
    """What ``prompts`` are the tokens of."""
    encoder: Encoder
    rules: RuleBasedReward | None
    """Rule-based rewards; None: the reward model's alone."""
    pretraining: Rows
    sampling: SamplingConfig


def run(
    config: PPOConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train ``inputs["sft"]`` against ``inputs["reward"]`` on the prompts of ``inputs["feedback"]``, ptx text from ``inputs["tokens"]``.

    With ``inputs["rbrm"]`` its rules' rewards are added. Raises ValueError where their judge is not the one their weights are of.
    """
    training = prepare(config, inputs, execution)
    history = train(config, training, checkpoints, execution, report)
    models, released = training.models, training.models.actor
    if training.ema is not None:
        take_average(released, training.ema)
    model_directory.write(released, inputs["sft"], history, out)
    chosen = epoch_indices(len(training.prompts), config.seed + 1, 0, config.final_episodes)
    prompts = [training.prompts[i] for i in chosen]
    validation = TokenRows(inputs["tokens"], "validation")[: config.final_rows]
    final = final_samples(
        models,
        prompts,
        training.sampling,
        kl_coef=charge(config, history),
        sample_seed=seed_of(config, -1),
        seed=config.seed,
        rewarded=lambda rollout: ruled(training, chosen, rollout),
    )
    return {
        **final,
        **language_model_loss(models, validation, config.micro_batch, config.seed),
        "policy/train/iterations": float(len(history.lines)),
    }


def prepare(config: PPOConfig, inputs: Mapping[str, Path], execution: ExecutionConfig) -> Training:
    """Actor, reference and EMA from the SFT model, reward and value from the reward model."""
    steps = config.iterations * config.minibatches

    def opened(role: str, optim: OptimizerConfig | None = None, precision: Precision = config.precision) -> Engine:
        head: Head = "lm" if role == "sft" else "scalar"
        return model_directory.load(
            inputs[role], execution, seed=config.seed, precision=precision, head=head, total_steps=steps, optim=optim
        )

    encoder = Encoder(inputs["sft"])
    for role in ("reward", "tokens"):
        encoder.require_same(role, inputs[role])
    asked = read(inputs["feedback"] / PROMPTS, PromptRecord, "train")
    prompts = [record.prompt for record in asked]
    models = Models(opened("sft", optim=config.optimizer), opened("sft"), opened("reward"), opened("reward", optim=config.value_optimizer))
    room = min(models.actor.model.seq_len - config.max_new_tokens, config.max_prompt_tokens or models.actor.model.seq_len)
    return Training(
        models=models,
        ema=opened("sft", precision="fp32") if config.ema_decay else None,
        prompts=fitting_prompts(encoder, prompts, room),
        asked=[one for one in asked if len(encoder.prompt(one.prompt)) <= room],
        encoder=encoder,
        rules=opened_rules(inputs, execution, models.reference, encoder, asked) if "rbrm" in inputs else None,
        pretraining=TokenRows(inputs["tokens"], "train"),
        sampling=SamplingConfig(config.max_new_tokens, config.temperature, closing(encoder, prompts), encoder.padding, config.micro_batch),
    )


def train(config: PPOConfig, training: Training, checkpoints: Path, execution: ExecutionConfig, report: Report) -> trainer.History:
    """The loop, from the newest checkpoint on. Raises KLBlowUpError where the config asks for an error, and GenerationDriftError."""
    history = resume(training, checkpoints, execution)
    report(len(history.lines), config.iterations, unit="iteration")
    with trainer.checkpoints_written():
        for iteration in range(len(history.lines), config.iterations):
            rollout, kl_coef = sampled(config, training, iteration), charge(config, history)
            metrics = experience.statistics(rollout, kl_coef)
            if rollout.drift > DRIFT_LIMIT[config.precision]:
                raise GenerationDriftError(
                    f"iteration {iteration}: generation and training differ by {rollout.drift:.2g} nats a token, "
                    f"at most {DRIFT_LIMIT[config.precision]:g} is rounding"
                )
            blown = metrics["objective/kl"] > config.kl_stop
            if blown and config.on_kl_stop == "error":
                raise KLBlowUpError(
                    f"iteration {iteration}: KL {metrics['objective/kl']:.2f} nats exceeds policy.kl_stop {config.kl_stop:g}; "
                    "raise policy.kl_coef or lower policy.optimizer.lr"
                )
            if blown:
                break
            metrics |= update(config, training, rollout, iteration, kl_coef)
            named = {f"policy/{key}": value for key, value in metrics.items()}
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
    rollout = experience.sample(training.models, [training.prompts[i] for i in chosen], seed_of(config, iteration), training.sampling)
    return ruled(training, chosen, rollout)


def ruled(training: Training, chosen: Sequence[int], rollout: Rollout) -> Rollout:
    """The experience of the ``chosen`` prompts with the rules' part of the reward added, where there are rules."""
    if training.rules is None:
        return rollout
    texts = [training.encoder.decode(completion) for completion in rollout.completions]
    asked = [training.asked[i] for i in chosen]
    responses = [Ruled(prompt_text(one.prompt), one.category, text) for one, text in zip(asked, texts, strict=True)]
    judged = training.rules(responses)
    return rollout._replace(parts={**rollout.parts, "rules": torch.tensor(judged.reward)}, notes=training.rules.shares(responses, judged))


def charge(config: PPOConfig, history: trainer.History) -> float:
    """The KL coefficient of the iteration that follows ``history``."""
    return coefficient(config.kl_coef, config.adaptive_kl, [line["policy/objective/kl"] for line in history.lines])


def seed_of(config: PPOConfig, iteration: int) -> int:
    """Seed of an iteration's samples; -1 is the final measurement's."""
    return int(np.random.SeedSequence([config.seed, iteration + 1]).generate_state(1)[0])


def update(config: PPOConfig, training: Training, rollout: Rollout, iteration: int, kl_coef: float) -> dict[str, float]:
    """One pass of minibatches over the experience; returns the metrics' means."""
    collected: list[dict[str, float]] = []
    actor, value = training.models.actor, training.models.value
    for policy_batches, value_batch in minibatches(config, training.pretraining, rollout, iteration, kl_coef):
        step = actor.train_step(policy_batches, config.micro_batch, policy_loss(config.clip_range, config.ptx_coef))
        value_step = value.train_step(value_batch, config.micro_batch, value_loss(config.value_clip_range))
        step |= {"policy/grad_norm": step.pop("grad_norm"), "policy/lr": step.pop("lr")}
        step |= {key: number for key, number in value_step.items() if key.startswith("value/")}
        collected.append({key: number for key, number in step.items() if key != "loss"})
    if training.ema is not None:
        follow(training.ema, actor, config.ema_decay)
    return {key: sum(step[key] for step in collected) / len(collected) for key in collected[0]}


def minibatches(
    config: PPOConfig, pretraining: Rows, rollout: Rollout, iteration: int, kl_coef: float
) -> Iterator[tuple[list[Batch], Batch]]:
    """Policy batches (episodes and, with ptx, pretraining rows) and value batch (episodes) of every optimizer step."""
    estimated = experience.advantages(rollout, kl_coef, config.gae_lambda)
    order = np.random.default_rng([config.seed, iteration]).permutation(config.episodes)
    for number in range(config.minibatches):
        chosen = torch.from_numpy(order[number * config.minibatch : (number + 1) * config.minibatch])
        tokens, labels, mask = (part[chosen] for part in rollout.rows)
        value_extras = {"mask": mask, "old_values": rollout.values[chosen], "returns": estimated.returns[chosen]}
        policy_extras = {
            "mask": mask,
            "old_logprobs": rollout.logprobs[chosen],
            "advantages": estimated.advantages[chosen],
            "ptx_scale": torch.zeros_like(mask),
        }
        policy = [Batch(tokens, labels, policy_extras)]
        if config.ptx_rows:
            start = (iteration * config.minibatches + number) * config.ptx_rows
            policy.append(pretraining_batch(pretraining, start, config.ptx_rows, float(mask.sum())))
        yield policy, Batch(tokens, labels, value_extras)


def pretraining_batch(pretraining: Rows, start: int, size: int, completion_tokens: float) -> Batch:
    """``size`` whole rows of packed text from row ``start`` on (around the end), with the extras of the policy loss."""
    rows = torch.from_numpy(pretraining[(start + np.arange(size)) % len(pretraining)].astype(np.int64))
    tokens, labels = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
    nothing = torch.zeros(tokens.shape)
    scale = torch.full(tokens.shape, completion_tokens / tokens.numel())
    return Batch(tokens, labels, {"mask": nothing, "old_logprobs": nothing, "advantages": nothing, "ptx_scale": scale})


def follow(ema: Engine, actor: Engine, decay: float) -> None:
    """Move the averaged weights by (1 - decay) towards the actor's.

    They are kept in fp32: at InstructGPT's 0.992 a step is less than half of bf16's spacing for nearly every
    weight, which would then never move.
    """
    with torch.no_grad():
        for averaged, current in zip(ema.gpt.parameters(), actor.gpt.parameters(), strict=True):
            averaged.lerp_(current.detach().to(averaged.dtype), 1 - decay)


def take_average(actor: Engine, ema: Engine) -> None:
    """Give the actor the averaged weights, rounded to its precision, once it is trained."""
    with torch.no_grad():
        for current, averaged in zip(actor.gpt.parameters(), ema.gpt.parameters(), strict=True):
            current.copy_(averaged)


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
