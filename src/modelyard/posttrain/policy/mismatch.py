"""Samples that another engine drew, as the trainer may use them: importance weights of their tokens, and when the two
are not the same model.

Yao et al. 2025 ("Your efficient RL framework secretly brings you off-policy RL training"): an inference engine with the
trainer's weights gives tokens other probabilities, by its kernels and its precision, so what it draws is off-policy.
Truncated importance sampling multiplies a token's gradient by min(p of the trainer / p of the sampler, C);
log-probabilities that a ratio starts from stay the trainer's. The weight is a token's own: that of the text before it
(a product, whose variance grows with the length) is left out, as there. Not corrected are means over what was sampled:
rewards, their baselines and the measured KL are those of the sampler's texts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from modelyard.model.network.model_config import Precision
from modelyard.posttrain.policy.config import OnPolicyConfig
from modelyard.posttrain.policy.rollout import Rollout

DRIFT_LIMIT: dict[Precision, float] = {"fp32": 1e-3, "bf16": 0.1}
"""Mean |log p in generation - log p in training| of sampled tokens, nats, above which the two are not the same model."""


class GenerationDriftError(RuntimeError):
    """What drew the samples gives their tokens other log-probabilities than the training forward: every ratio would be wrong."""


class Importance(NamedTuple):
    """How much each sampled token counts, and what to watch of it."""

    weights: Tensor
    """[N, S]: p of the trainer / p of the sampler, truncated; 0 outside the completions."""
    notes: dict[str, float]
    """Of the weights before they were truncated, by metric; see :func:`importance`."""


def importance(trainer: Tensor, sampler: Tensor, mask: Tensor, cap: float) -> Importance:
    """Weights of tokens whose log-probabilities [N, S] two engines gave, over ``mask`` [N, S].

    Notes: ``sampler/weight_mean`` (1 in expectation), ``.../weight_max``, ``.../effective`` (effective sample size over sample size,
    (sum w)^2 / (n sum w^2)), ``.../kl`` (KL of sampler to trainer of the next token in nats, Schulman's k3), ``.../truncated`` (share above ``cap``).
    """
    keep = mask.bool()
    difference = (trainer - sampler)[keep].double()
    weights = difference.exp()
    notes = {
        "sampler/weight_mean": float(weights.mean()),
        "sampler/weight_max": float(weights.max()),
        "sampler/effective": float(weights.sum() ** 2 / (len(weights) * (weights**2).sum())),
        "sampler/kl": float((weights - 1 - difference).mean()),
        "sampler/truncated": float((weights > cap).double().mean()),
    }
    truncated = torch.zeros_like(trainer)
    truncated[keep] = weights.clamp(max=cap).to(trainer.dtype)
    return Importance(truncated, notes)


def corrected(config: OnPolicyConfig, rollout: Rollout) -> Rollout:
    """The experience with importance weights where a server drew it; the own engine's as it is."""
    if config.rollouts.backend == "own":
        return rollout
    assert rollout.sampler_logprobs is not None
    found = importance(rollout.logprobs, rollout.sampler_logprobs, rollout.rows.mask, config.rollouts.weight_cap)
    return rollout._replace(weights=found.weights, notes={**rollout.notes, **found.notes})


def require_same_model(config: OnPolicyConfig, rollout: Rollout, iteration: int) -> None:
    """Raise GenerationDriftError where sampler and trainer differ by more than rounding, or by more than the config allows."""
    limit = config.rollouts.max_mismatch or DRIFT_LIMIT[config.precision]
    if rollout.drift <= limit:
        return
    if config.rollouts.backend == "own":
        raise GenerationDriftError(
            f"iteration {iteration}: generation and training differ by {rollout.drift:.2g} nats a token, at most {limit:g} is rounding"
        )
    largest = rollout.notes["sampler/weight_max"]
    raise GenerationDriftError(
        f"iteration {iteration}: the sampler and the policy differ by {rollout.drift:.2g} nats a token (largest importance weight {largest:.3g}), "
        f"and policy.rollouts.max_mismatch is {limit:g}: the server has other weights, or kept some through a reload (execution.sampler_reload), "
        "or another precision"
    )
