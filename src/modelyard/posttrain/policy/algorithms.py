"""What an algorithm makes of an iteration's samples: the weight of every token in the policy's update. The trainer knows no other difference.

PPO (InstructGPT, arXiv:2203.02155, appendix C.4): whitened GAE on rewards that hold the KL charge, every token alike. GRPO (DeepSeekMath,
arXiv:2402.03300, eq. 3 and 4): A_i = (r_i - mean of the group) / standard deviation of the group for every token of completion i, the KL in the
loss, averaged over the tokens of a completion and then over completions. Dr. GRPO (arXiv:2503.20783) leaves out the deviation and divides by
one length for all; DAPO (arXiv:2503.14476, eq. 8) averages over all tokens. RLOO (arXiv:2402.14740, eq. 6): A_i = R_i - mean of the others' R,
with R the reward minus the KL charge of the sequence; a completion is one action, so its tokens are summed.

On-policy distillation (GKD, arXiv:2306.13649, section 3.1; Thinking Machines, "On-Policy Distillation"): A_t = log p_teacher - log pi of the sampled
token. Where the policy sampled, the gradient is in expectation that of the reverse KL of the next token, averaged over all tokens; a token answers
for nothing that follows it, and there is no baseline.

RLOO's ratio is per token and clipped as everybody's here: equal to REINFORCE in the first minibatch, in the following ones what keeps them
near the policy that sampled. Left out: DAPO's resampling of prompts whose completions all earn the same (their share is reported as
``group/flat``) and its penalty on overlong answers; the KL over the whole vocabulary, which needs every logit of the teacher (GKD), and
returns of later tokens (MiniLLM, arXiv:2306.08543).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from modelyard.posttrain.losses import Terms
from modelyard.posttrain.policy.config import GroupConfig, GRPOConfig, OnPolicyConfig, OPDConfig, PPOConfig, RLOOConfig
from modelyard.posttrain.policy.gae import gae, whiten
from modelyard.posttrain.policy.rewards import sequence_kl, token_rewards
from modelyard.posttrain.policy.rollout import Rollout

SMALLEST_DEVIATION = 1e-4
"""Added to a standard deviation before it divides, as TRL's GRPO does: a group of equal rewards has advantages of 0."""


class Signal(NamedTuple):
    """What an iteration teaches; [N, S] aligned with labels."""

    advantages: Tensor
    """Zero outside the completions."""
    returns: Tensor | None
    """What the critic is to learn; None where there is none."""
    notes: dict[str, float]
    """What to watch of the groups, by metric."""


def signal(config: OnPolicyConfig, rollout: Rollout, kl_coef: float) -> Signal:
    """Advantages of every token by the algorithm of ``config``."""
    mask = rollout.rows.mask
    if isinstance(config, PPOConfig):
        assert rollout.values is not None
        rewards = token_rewards(rollout.logprobs, rollout.reference_logprobs, rollout.scores, mask, kl_coef)
        estimated = gae(rewards, rollout.values, mask, config.gae_lambda)
        return Signal(whiten(estimated.advantages, mask), estimated.returns, {})
    if isinstance(config, OPDConfig):
        assert rollout.teacher_logprobs is not None
        closer = rollout.teacher_logprobs - rollout.logprobs
        return Signal(torch.where(mask.bool(), closer, torch.zeros_like(closer)), None, {})
    assert isinstance(config, GroupConfig)
    if isinstance(config, RLOOConfig):
        charged = rollout.scores - kl_coef * sequence_kl(rollout.logprobs, rollout.reference_logprobs, mask)
        advantages = leave_one_out(charged, config.group)
    else:
        assert isinstance(config, GRPOConfig)
        advantages = relative(rollout.scores, config.group, config.scale)
    spread = rollout.scores.view(-1, config.group).std(dim=1)
    notes = {"group/reward_std": float(spread.mean()), "group/flat": float((spread == 0).float().mean())}
    return Signal(advantages[:, None] * mask, None, notes)


def relative(scores: Tensor, group: int, scale: str) -> Tensor:
    """[N]: distance of every score [N] from the mean of its ``group`` neighbours, in units of ``scale`` (see :class:`GRPOConfig`).

    Deviations are those of a sample (n - 1).
    """
    grouped = scores.view(-1, group)
    distance = grouped - grouped.mean(dim=1, keepdim=True)
    if scale == "group":
        distance = distance / (grouped.std(dim=1, keepdim=True) + SMALLEST_DEVIATION)
    elif scale == "batch":
        distance = distance / (scores.std() + SMALLEST_DEVIATION)
    return distance.flatten()


def leave_one_out(scores: Tensor, group: int) -> Tensor:
    """[N]: every score [N] minus the mean of the others of its ``group`` neighbours."""
    grouped = scores.view(-1, group)
    others = (grouped.sum(dim=1, keepdim=True) - grouped) / (group - 1)
    return (grouped - others).flatten()


def token_scale(config: OnPolicyConfig, mask: Tensor) -> Tensor:
    """[b, S]: weight of every token of a minibatch, zero outside ``mask`` [b, S], that makes the sum over tokens divided by their number,
    which the engine computes, the mean that the algorithm asks for."""
    tokens, rows = mask.sum(), mask.shape[0]
    if isinstance(config, RLOOConfig):
        return mask * (tokens / rows)
    match config.mean if isinstance(config, GRPOConfig) else "token":
        case "sequence":
            return mask * (tokens / (rows * mask.sum(dim=1, keepdim=True)))
        case "longest":
            return mask * (tokens / (rows * config.max_new_tokens))
    return mask


def terms_of(config: OnPolicyConfig, kl_coef: float) -> Terms:
    """The terms of the loss: GRPO charges the KL there, PPO and RLOO have charged it in the reward, and distillation charges none."""
    high = config.clip_range
    if isinstance(config, GRPOConfig):
        return Terms(config.clip_range, config.clip_range_high or high, config.ptx_coef, kl_coef)
    return Terms(config.clip_range, high, config.ptx_coef, 0.0)
