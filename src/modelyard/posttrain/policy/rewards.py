"""What every sampled token earns: minus the KL coefficient times its log-ratio to the reference, and at the last one the reward of the whole
completion, which is a sum of parts: the reward model's score and, where there are rules, theirs (:mod:`modelyard.posttrain.judged.rules`).

InstructGPT (arXiv:2203.02155, section 3.5, eq. 2): r(x, y) - beta log(pi_RL(y | x) / pi_SFT(y | x)), spread over tokens as in Ziegler et
al. (arXiv:1909.08593). The KL of a sequence is estimated by the sum of its log-ratios (unbiased, and negative for single sequences); the
always-positive estimators (Schulman's k2, k3) and exact KL over the vocabulary are left out because only the label's log-probability is
kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from modelyard.posttrain.rows.masking import last_positions


def composed(parts: Mapping[str, Tensor]) -> Tensor:
    """[N]: the reward of whole completions, the sum of its parts ([N] each, by name)."""
    return torch.stack(list(parts.values())).sum(dim=0)


def sequence_kl(logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor) -> Tensor:
    """[B]: sum over completion tokens of log pi - log pi_ref, in nats."""
    ratio = logprobs - reference_logprobs
    return torch.where(mask.bool(), ratio, torch.zeros_like(ratio)).sum(dim=1)


def token_rewards(logprobs: Tensor, reference_logprobs: Tensor, scores: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """[B, S]: reward of every completion token; ``scores`` [B] are added at each row's last one. Zero outside ``mask``."""
    penalty = -kl_coef * (logprobs - reference_logprobs)
    rewards = torch.where(mask.bool(), penalty, torch.zeros_like(penalty))
    return rewards.scatter_add(1, last_positions(mask)[:, None], scores[:, None].to(rewards.dtype))
