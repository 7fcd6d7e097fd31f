"""One pass of minibatches over an iteration's samples: batches with the weights of the loss's terms, optimizer steps, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from modelyard.formats.token_rows import Rows
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import sequences
from modelyard.posttrain.losses import policy_loss, value_loss
from modelyard.posttrain.policy.algorithms import Signal, signal, terms_of, token_scale
from modelyard.posttrain.policy.config import OnPolicyConfig, PPOConfig
from modelyard.posttrain.policy.prepare import Training
from modelyard.posttrain.policy.rollout import Rollout


def update(config: OnPolicyConfig, training: Training, rollout: Rollout, iteration: int, kl_coef: float) -> dict[str, float]:
    """One pass of minibatches over the experience; returns the metrics' means."""
    collected: list[dict[str, float]] = []
    actor, critic = training.models.actor, training.models.value
    taught, loss = signal(config, rollout, kl_coef), policy_loss(terms_of(config, kl_coef))
    micro_batch = rollout.together.micro_batch(config.micro_batch)
    for chosen, number in minibatches(config, iteration, rollout.together.texts):
        step = actor.train_step(policy_batches(config, training.pretraining, rollout, taught, chosen, number), micro_batch, loss)
        step |= {"policy/grad_norm": step.pop("grad_norm"), "policy/lr": step.pop("lr")}
        if isinstance(config, PPOConfig) and critic is not None:
            value_step = critic.train_step(value_batch(rollout, taught, chosen), micro_batch, value_loss(config.value_clip_range))
            step |= {key: value for key, value in value_step.items() if key.startswith("value/")}
        collected.append({key: value for key, value in step.items() if key != "loss"})
    if training.ema is not None:
        follow(training.ema, actor, config.ema_decay)
    return {
        **taught.notes,
        **unended(rollout, taught.advantages),
        **{key: sum(step[key] for step in collected) / len(collected) for key in collected[0]},
    }


def unended(rollout: Rollout, advantages: Tensor) -> dict[str, float]:
    """Completions that were cut, and of these the rows that teach never to stop: what they say is made likelier on the whole (``advantages``
    [N, S]), and no token among them ends it."""
    cut = ~rollout.ended
    return {"data/cut": float(cut.sum()), "data/never_stop": float((cut & (advantages.sum(dim=1) > 0)).sum())}


def minibatches(config: OnPolicyConfig, iteration: int, texts: int = 1) -> Iterator[tuple[Tensor, int]]:
    """Which rows of ``texts`` episodes ([rows] int64) every optimizer step trains on, and its number in the run.

    What is drawn for a minibatch are ``config.undivided`` episodes at a time, whatever rows hold.
    """
    unit = math.lcm(config.undivided, texts)  # rows of more are of prompts that are equal by chance
    order = torch.from_numpy(np.random.default_rng([config.seed, iteration]).permutation(config.episodes // unit))
    rows = (order[:, None] * (unit // texts) + torch.arange(unit // texts)).flatten()
    for place, chosen in enumerate(rows.split(config.minibatch // texts)):
        yield chosen, iteration * config.minibatches + place


def policy_batches(config: OnPolicyConfig, pretraining: Rows, rollout: Rollout, taught: Signal, chosen: Tensor, number: int) -> list[Batch]:
    """The episodes of the ``chosen`` rows and, with ptx, the pretraining rows of optimizer step ``number``."""
    episodes = rollout.together.completions_of(chosen)
    mask = rollout.rows.mask[episodes]
    scale = token_scale(config, mask)
    if rollout.weights is not None:
        scale = scale * rollout.weights[episodes]
    extras = {
        "mask": mask,
        "generated_logprobs" if config.one_update else "old_logprobs": rollout.logprobs[episodes],
        "reference_logprobs": rollout.reference_logprobs[episodes],
        "rl_weight": taught.advantages[episodes] * scale,
        "ce_weight": torch.zeros_like(mask),
        "kl_weight": scale,
    }
    batch = rollout.together.batch_of(chosen, extras)
    if not config.ptx_rows:
        return [batch]
    text = pretraining_batch(pretraining, number * config.ptx_rows, config.ptx_rows, float(mask.sum()), list(extras))
    return [batch, text]


def value_batch(rollout: Rollout, taught: Signal, chosen: Tensor) -> Batch:
    """The episodes of the ``chosen`` rows as the critic learns them."""
    assert rollout.values is not None
    assert taught.returns is not None
    episodes = rollout.together.completions_of(chosen)
    known = {"mask": rollout.rows.mask, "old_values": rollout.values, "returns": taught.returns}
    return rollout.together.batch_of(chosen, {key: value[episodes] for key, value in known.items()})


def pretraining_batch(pretraining: Rows, start: int, size: int, completion_tokens: float, names: Sequence[str]) -> Batch:
    """``size`` whole rows of packed text from row ``start`` on (around the end), with the extras ``names`` of the policy loss."""
    text = sequences(pretraining[(start + np.arange(size)) % len(pretraining)])
    nothing = torch.zeros(text.tokens.shape)
    extras = dict.fromkeys(names, nothing)
    weight = torch.full(text.tokens.shape, completion_tokens / text.tokens.numel())
    return text._replace(extras={**text.extras, **extras, "ce_weight": weight})


def follow(ema: Engine, actor: Engine, decay: float) -> None:
    """Move the averaged weights by (1 - decay) towards the actor's.

    They are kept in fp32: at InstructGPT's 0.992 a step is less than half of bf16's spacing for nearly every
    weight, which would then never move.
    """
    with torch.no_grad():
        for averaged, current in zip(ema.trained(), actor.trained(), strict=True):
            averaged.lerp_(current.detach().to(averaged.dtype), 1 - decay)
