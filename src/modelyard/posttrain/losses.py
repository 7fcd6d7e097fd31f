"""The losses of alignment, each a ``loss_fn(output, batch) -> LossOutput`` of sums: the engine divides by the count over all ranks and
micro-batches.

- SFT: -log p of completion tokens.
- Reward model, InstructGPT (arXiv:2203.02155) eq. 1: -1/C(K,2) sum log sigmoid(r_w - r_l) over the pairs of one comparison; a pair
  that ties is left out of the sum and stays in C(K,2).
- Policy: PPO's clipped surrogate (arXiv:1707.06347, eq. 7), -log pi of text to be kept (gamma times it is PPO-ptx, InstructGPT eq. 2) and
  the KL to a reference (GRPO, arXiv:2402.03300, eq. 4), each token weighted as the algorithm says (:mod:`modelyard.posttrain.policy.algorithms`).
- Value: squared error to the returns, clipped around the old value like the policy's ratio (Ziegler et al., arXiv:1909.08593).

A batch's ``extras`` carry what each needs, named in the functions. Metric names are the field's (summarize_from_feedback_details).
Positions outside a mask are never read. Left out: an entropy bonus (the KL to the reference does its work). The losses of policies trained on
comparisons are :mod:`modelyard.posttrain.preference.losses`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from modelyard.model.network.model_config import Precision
from modelyard.model.training.batch import Batch, LossFn, LossOutput
from modelyard.posttrain.rows.masking import masked_sum
from modelyard.stats import ties

NO_COMPARISON = -1
"""Value of ``extras["comparison"]`` where there is no text: a row has fewer than others, or only fills a micro-batch."""


def sft_loss(logprobs: Tensor, batch: Batch) -> LossOutput:
    """Mean -log p over ``mask`` [b, S], whose weights sum to the tokens that have one over the batch."""
    mask = batch.extras["mask"]
    loss = -masked_sum(logprobs, mask)
    return LossOutput(loss, (mask > 0).sum(), {"loss": loss.detach()})


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


class Terms(NamedTuple):
    """What a policy's update is made of: rl + ``ce_coef`` x ce + ``kl_coef`` x ref_kl, each a sum over tokens with weights of their own."""

    clip_low: float
    """How far the ratio may fall below 1 before it earns nothing more."""
    clip_high: float
    """And rise above it."""
    ce_coef: float
    """On -log pi: gamma of PPO-ptx."""
    kl_coef: float
    """On the KL to the reference; 0: that term is not computed."""


def policy_loss(terms: Terms) -> LossFn:
    """The three terms of a policy's update over the tokens of a micro-batch; the weights say which algorithm it is.

    - rl, PPO's clipped surrogate: -min(w ratio, w clip(ratio)), w being advantage x the token's share.
    - ce: -w log pi.
    - ref_kl: w (exp(d) - d - 1) with d = log pi_ref - log pi (Schulman's k3, GRPO's eq. 4: never negative, unbiased).

    Extras [b, S]: ``mask`` is 1 on sampled tokens, over which the engine divides and metrics are means; ``old_logprobs``, or
    ``generated_logprobs`` where this is the only update by the weights that sampled, so that every ratio is 1 (with the gradient of one), and how
    far they lie from this forward pass is measured; ``rl_weight``, ``ce_weight`` and, where ``kl_coef`` is not 0, ``kl_weight`` and
    ``reference_logprobs``. A weight counts sampled tokens: on pretraining text ``ce_weight`` is sampled tokens / pretraining tokens of the whole
    batch, so that the term becomes a mean.
    """

    def loss_fn(logprobs: Tensor, batch: Batch) -> LossOutput:
        mask, rl_weight, ce_weight = (batch.extras[key] for key in ("mask", "rl_weight", "ce_weight"))
        generated = batch.extras.get("generated_logprobs")
        old = batch.extras["old_logprobs"] if generated is None else logprobs.detach()
        log_ratio = torch.where(mask.bool(), logprobs - old, torch.zeros_like(logprobs))
        ratio = log_ratio.exp()
        unclipped, clipped = -rl_weight * ratio, -rl_weight * ratio.clamp(1 - terms.clip_low, 1 + terms.clip_high)
        rl, ce = masked_sum(torch.maximum(unclipped, clipped), mask), -masked_sum(logprobs, ce_weight)
        loss = rl + terms.ce_coef * ce
        metrics = {
            "policy/loss": rl.detach(),
            "policy/clipfrac": masked_sum((clipped > unclipped).to(mask.dtype), mask),
            "policy/approxkl": masked_sum(0.5 * log_ratio.detach() ** 2, mask),
            "policy/ratio": masked_sum(ratio.detach(), mask),
            "ptx/loss": ce.detach(),
        }
        if generated is not None:
            metrics["policy/generation_drift"] = masked_sum((logprobs.detach() - generated).abs(), mask)
        if terms.kl_coef:
            away = torch.where(mask.bool(), batch.extras["reference_logprobs"] - logprobs, torch.zeros_like(logprobs))
            ref_kl = masked_sum(away.exp() - away - 1, batch.extras["kl_weight"])
            loss = loss + terms.kl_coef * ref_kl
            metrics["policy/ref_kl"] = ref_kl.detach()
        return LossOutput(loss, mask.sum(), metrics)

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
