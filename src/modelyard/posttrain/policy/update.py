"""One pass of minibatches over an iteration's samples: batches with the weights of the loss's terms, optimizer steps, averaged weights."""

from __future__ import annotations

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
    for chosen, number in minibatches(config, iteration):
        step = actor.train_step(policy_batches(config, training.pretraining, rollout, taught, chosen, number), config.micro_batch, loss)
        step |= {"policy/grad_norm": step.pop("grad_norm"), "policy/lr": step.pop("lr")}
        if isinstance(config, PPOConfig) and critic is not None:
            value_step = critic.train_step(value_batch(rollout, taught, chosen), config.micro_batch, value_loss(config.value_clip_range))
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


def minibatches(config: OnPolicyConfig, iteration: int) -> Iterator[tuple[Tensor, int]]:
    """Which episodes ([minibatch] int64) every optimizer step trains on, and its number in the run."""
    order = torch.from_numpy(np.random.default_rng([config.seed, iteration]).permutation(config.episodes))
    for place, chosen in enumerate(order.split(config.minibatch)):
        yield chosen, iteration * config.minibatches + place


def policy_batches(config: OnPolicyConfig, pretraining: Rows, rollout: Rollout, taught: Signal, chosen: Tensor, number: int) -> list[Batch]:
    """The ``chosen`` episodes and, with ptx, the pretraining rows of optimizer step ``number``."""
    tokens, labels, mask = (part[chosen] for part in rollout.rows)
    scale = token_scale(config, mask)
    if rollout.weights is not None:
        scale = scale * rollout.weights[chosen]
    extras = {
        "mask": mask,
        "generated_logprobs" if config.one_update else "old_logprobs": rollout.logprobs[chosen],
        "reference_logprobs": rollout.reference_logprobs[chosen],
        "rl_weight": taught.advantages[chosen] * scale,
        "ce_weight": torch.zeros_like(mask),
        "kl_weight": scale,
    }
    if not config.ptx_rows:
        return [Batch(tokens, labels, extras)]
    text = pretraining_batch(pretraining, number * config.ptx_rows, config.ptx_rows, float(mask.sum()), list(extras))
    return [Batch(tokens, labels, extras), text]


def value_batch(rollout: Rollout, taught: Signal, chosen: Tensor) -> Batch:
    """The ``chosen`` episodes as the critic learns them."""
    assert rollout.values is not None
    assert taught.returns is not None
    tokens, labels, mask = (part[chosen] for part in rollout.rows)
    return Batch(tokens, labels, {"mask": mask, "old_values": rollout.values[chosen], "returns": taught.returns[chosen]})


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
