"""What a finished policy is: its KL, reward and signs of hacking on fresh samples beside the SFT model's, and what became of its language model.

InstructGPT (arXiv:2203.02155) reports reward against KL and, for PPO-ptx, losses on public text; the same two here. The reward is the one that
was optimised; whether people would agree is the evals stage's question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch.distributed as dist

from modelyard.formats.token_rows import PackedRows, TokenRows
from modelyard.log import logger
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.sample_order import epoch_indices
from modelyard.model.training.token_data import sequences
from modelyard.posttrain.policy import rollout as experience
from modelyard.posttrain.policy.config import PolicyConfig
from modelyard.posttrain.policy.hacking import signs
from modelyard.posttrain.policy.rewards import sequence_kl
from modelyard.posttrain.policy.rollout import Models, Rollout, SamplingConfig
from modelyard.stats.estimate import bootstrap_mean

_log = logger(__name__)


def finished(
    config: PolicyConfig,
    models: Models,
    prompts: Sequence[list[int]],
    sampling: SamplingConfig,
    tokens: Path,
    *,
    kl_coef: float,
    rewarded: Callable[[Rollout, Sequence[int]], Rollout] = lambda rollout, chosen: rollout,
) -> dict[str, float]:
    """All of this module on ``final_episodes`` of the ``prompts`` and ``final_rows`` of the validation text in ``tokens``.

    ``rewarded`` adds the parts of the reward that are not the reward model's to answers of the chosen prompts, which it gets by number.
    """
    chosen = epoch_indices(len(prompts), config.seed + 1, 0, config.final_episodes)
    final = final_samples(
        models,
        [prompts[i] for i in chosen],
        sampling,
        kl_coef=kl_coef,
        sample_seed=seed_of(config, -1),
        seed=config.seed,
        rewarded=lambda rollout: rewarded(rollout, chosen),
    )
    validation = TokenRows(tokens, "validation")[: config.final_rows]
    return {**final, **language_model_loss(models, validation, config.micro_batch, config.seed)}


def seed_of(config: PolicyConfig, iteration: int) -> int:
    """Seed of an iteration's samples; -1 is the final measurement's."""
    return int(np.random.SeedSequence([config.seed, iteration + 1]).generate_state(1)[0])


def final_samples(
    models: Models,
    prompts: Sequence[list[int]],
    sampling: SamplingConfig,
    *,
    kl_coef: float,
    sample_seed: int,
    seed: int,
    rewarded: Callable[[Rollout], Rollout] = lambda rollout: rollout,
) -> dict[str, float]:
    """KL, also to a teacher, reward and the signs of hacking of the actor on ``prompts``, beside the SFT model's; ``seed`` is the bootstrap's.

    ``rewarded`` adds the parts of the reward that are not the reward model's.
    """
    rollout = rewarded(experience.sample(models, prompts, sample_seed, sampling))
    before = rewarded(experience.sample(models._replace(actor=models.reference), prompts, sample_seed, sampling))
    kl = sequence_kl(rollout.logprobs, rollout.reference_logprobs, rollout.rows.mask).tolist()
    away = experience.from_teacher(rollout)
    hacking = signs(rollout.completions, before.completions, rollout.scores.tolist(), seed)
    raised = [name for name, value in hacking.items() if name.startswith("flag_") and value]
    if raised and dist.get_rank() == 0:
        _log.warning("policy: signs of reward hacking: %s; look at the samples", ", ".join(name.removeprefix("flag_") for name in raised))
    return {
        **{f"policy/reference/{key.partition('/')[2]}": number for key, number in experience.statistics(before, kl_coef).items()},
        **{f"policy/{key}": number for key, number in experience.statistics(rollout, kl_coef).items()},
        **bootstrap_mean(kl, seed).flat("policy/objective/kl"),
        **({} if away is None else bootstrap_mean(away.tolist(), seed).flat("policy/objective/teacher_kl")),
        **bootstrap_mean(rollout.scores.tolist(), seed).flat("policy/objective/reward"),
        **{f"policy/hacking/{key}": number for key, number in hacking.items()},
    }


def language_model_loss(models: Models, validation: PackedRows, micro_batch: int, seed: int) -> dict[str, float]:
    """Loss on validation rows of the actor and of the SFT model it started from: what ptx is to keep."""
    batch = sequences(validation)
    after, before = (per_row(engine, batch, micro_batch) for engine in (models.actor, models.reference))
    change = [a / b - 1 for a, b in zip(after, before, strict=True)]
    return {
        **bootstrap_mean(after, seed).flat("policy/ptx/loss"),
        "policy/ptx/reference_loss": sum(before) / len(before),
        **bootstrap_mean(change, seed).flat("policy/ptx/relative_change"),
    }


def per_row(engine: Engine, batch: Batch, micro_batch: int) -> Sequence[float]:
    """Mean -log p of every row."""
    return [-value for value in engine.evaluate(batch, micro_batch).mean(dim=1).tolist()]
