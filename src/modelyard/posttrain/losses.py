"""The losses of alignment, each a ``loss_fn(output, batch) -> LossOutput`` of sums: the engine divides by the count over all ranks and
micro-batches.

- SFT: -log p of completion tokens.
- Reward model, InstructGPT (arXiv:2203.02155) eq. 1: -1/C(K,2) sum log sigmoid(r_w - r_l) over the pairs of one comparison; a pair
  that ties is left out of the sum and stays in C(K,2).
- Policy: PPO's clipped surrogate (arXiv:1707.06347, eq. 7) plus, for PPO-ptx (InstructGPT eq. 2), -gamma log pi of pretraining tokens.
- Value: squared error to the returns, clipped around the old value like the policy's ratio (Ziegler et al., arXiv:1909.08593).

A batch's ``extras`` carry what each needs, named in the functions. Metric names are the field's (summarize_from_feedback_details).
Positions outside a mask are never read. Left out: an entropy bonus (the KL to the reference does its work) and per-sequence
normalisation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from modelyard.model.network.architecture import Precision
from modelyard.model.training.batch import Batch, LossFn, LossOutput
from modelyard.posttrain.rows.masking import masked_sum
from modelyard.stats import ties

NO_COMPARISON = -1
"""Value of ``extras["comparison"]`` where there is no text: a row has fewer than others, or only fills a micro-batch."""


def sft_loss(logprobs: Tensor, batch: Batch) -> LossOutput:
    """Mean -log p over ``mask`` [b, S]."""
    mask = batch.extras["mask"]
    loss = -masked_sum(logprobs, mask)
    return LossOutput(loss, mask.sum(), {"loss": loss.detach()})


class Pairs(NamedTuple):
    """All pairs of E texts [E, E]: entry (w, l) is the pair in which text w is preferred to text l; 0 where there is none."""

    losses: Tensor
    """-log sigmoid(r_w - r_l)."""
    weights: Tensor
    """1/C(K, 2) for the K texts of their comparison: a pair that ties leaves its share to nobody."""
    shares: Tensor
    """1 / pairs that the ties of their comparison left: those of one comparison sum to 1, for rates."""


def pairs_of(scores: Tensor, ranks: Tensor, comparison: Tensor) -> Pairs:
    """Eq. 1 for texts scored [E]: pairs are of the same ``comparison`` [E], the preferred text's ``ranks`` [E] above the other's; equal
    ranks are ties and make none."""
    alike = comparison[:, None] == comparison[None, :]
    pairs = alike & (ranks[:, None] > ranks[None, :]) & (comparison != NO_COMPARISON)[:, None]
    same = alike.to(scores.dtype)
    texts = same.sum(dim=1)  # [E]: K of the comparison that the text is part of
    left = same @ pairs.to(scores.dtype).sum(dim=1)  # [E]: its pairs without a tie
    weights = pairs / (texts * (texts - 1) / 2).clamp(min=1)[:, None]
    return Pairs(-F.logsigmoid(scores[:, None] - scores[None, :]), weights, pairs / left.clamp(min=1)[:, None])


def reward_loss(values: Tensor, batch: Batch, precision: Precision = "fp32") -> LossOutput:
    """Mean of eq. 1 over comparisons. All texts of a comparison stand in one micro-batch, in rows of their own or in one.

    Extras [b, E], for the E texts of a row: ``ends`` int64 (a text's score is the value at its last token), ``rank`` int (higher is better),
    ``comparison`` int (:data:`NO_COMPARISON` where there is no text). ``precision``, the model's, says which scores tie in ``accuracy``; it and the
    margin are means over the pairs of a comparison without ties, then over comparisons.
    """
    ends, ranks, comparison = (batch.extras[key] for key in ("ends", "rank", "comparison"))
    found = values.gather(1, ends)
    scores = torch.where(comparison == NO_COMPARISON, torch.zeros_like(found), found).flatten()
    pairs = pairs_of(scores, ranks.flatten(), comparison.flatten())
    loss = (pairs.losses * pairs.weights).sum()
    with torch.no_grad():
        won = (pairs.shares * ties.preferred(scores[:, None], scores[None, :], precision)).sum()
        margin = (pairs.shares * (scores[:, None] - scores[None, :])).sum()
    return LossOutput(loss, pairs.shares.sum().round(), {"loss": loss.detach(), "accuracy": won, "margin": margin})


def policy_loss(clip_range: float, ptx_coef: float) -> LossFn:
    """PPO's policy loss per completion token, plus ``ptx_coef`` (gamma) times the mean -log pi of pretraining tokens.

    Extras [b, S]: ``mask``, ``old_logprobs`` and ``advantages`` of sampled rows; ``ptx_scale`` is 0 on them and, on pretraining tokens,
    completion tokens / pretraining tokens of the whole batch: the engine divides by completion tokens, so both terms become means.
    """

    def loss_fn(logprobs: Tensor, batch: Batch) -> LossOutput:
        mask, old, advantages, ptx_scale = (batch.extras[key] for key in ("mask", "old_logprobs", "advantages", "ptx_scale"))
        log_ratio = torch.where(mask.bool(), logprobs - old, torch.zeros_like(logprobs))
        ratio = log_ratio.exp()
        unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
        surrogate = masked_sum(torch.maximum(unclipped, clipped), mask)
        ptx = -masked_sum(logprobs, ptx_scale)
        metrics = {
            "policy/loss": surrogate.detach(),
            "policy/clipfrac": masked_sum((clipped > unclipped).to(mask.dtype), mask),
            "policy/approxkl": masked_sum(0.5 * log_ratio.detach() ** 2, mask),
            "policy/ratio": masked_sum(ratio.detach(), mask),
            "ptx/loss": ptx.detach(),
        }
        return LossOutput(surrogate + ptx_coef * ptx, mask.sum(), metrics)

    return loss_fn


def value_loss(clip_range: float) -> LossFn:
    """Half the squared error to ``returns``, the worse of the value's and of the value clipped to ``old_values`` +- ``clip_range``.

    Extras [b, S]: ``mask``, ``old_values``, ``returns``.
    """

    def loss_fn(values: Tensor, batch: Batch) -> LossOutput:
        mask, old, returns = (batch.extras[key] for key in ("mask", "old_values", "returns"))
        values, old, returns = (torch.where(mask.bool(), x, torch.zeros_like(x)) for x in (values, old, returns))
        limited = old + (values - old).clamp(-clip_range, clip_range)
        unclipped, clipped = (values - returns) ** 2, (limited - returns) ** 2
        loss = 0.5 * masked_sum(torch.maximum(unclipped, clipped), mask)
        metrics = {
            "value/loss": loss.detach(),
            "value/clipfrac": masked_sum((clipped > unclipped).to(mask.dtype), mask),
            "value/error": masked_sum(unclipped.detach(), mask),
        }
        return LossOutput(loss, mask.sum(), metrics)

    return loss_fn
