"""Generalised advantage estimation without discount, and whitening.

GAE (arXiv:1506.02438, eq. 16) with gamma = 1, as InstructGPT (appendix C.4) runs PPO: delta_t = r_t + V_{t+1} - V_t, A_t = sum_k lambda^k
delta_{t+k}, returns A_t + V_t, V after the last token 0. InstructGPT does not publish lambda. Whitening is Ziegler et al.'s
(arXiv:1909.08593). Tensors are [B, S] aligned with labels (see `masking`): the value at position t is that of the text before label t is
chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from modelyard.posttrain.rows.masking import masked_mean


class Advantages(NamedTuple):
    """Both [B, S], zero where the mask is."""

    advantages: Tensor
    returns: Tensor


def gae(rewards: Tensor, values: Tensor, mask: Tensor, lam: float) -> Advantages:
    """Undiscounted GAE over the masked positions of every row, which must be consecutive."""
    keep = mask.bool()
    rewards, values = (torch.where(keep, x, torch.zeros_like(x)) for x in (rewards, values))
    advantages = torch.zeros_like(rewards)
    following, next_value = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + next_value - values[:, t]
        # outside the mask rewards and values are 0; what is carried must be dropped too, or it would leak in front of the completion
        following = torch.where(keep[:, t], delta + lam * following, torch.zeros_like(delta))
        next_value = values[:, t]
        advantages[:, t] = following
    return Advantages(advantages, advantages + values)


def whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Scale the masked values to variance 1 and, unless ``shift_mean`` is false, mean 0; zero elsewhere.

    Raises:
        ValueError: fewer than two masked values.
    """
    if int(mask.bool().sum()) < 2:
        raise ValueError("whitening needs at least two masked values")
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    white = (values - mean) * torch.rsqrt(variance + 1e-8)
    if not shift_mean:
        white = white + mean
    return torch.where(mask.bool(), white, torch.zeros_like(white))
