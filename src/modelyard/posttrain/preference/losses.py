"""The losses of policies that learn from what people compared or rated, each a ``loss_fn(logprobs, batch) -> LossOutput``.

With r = log pi(y | x) / pi_ref(y | x) of a completion and s = beta r its implicit reward (DPO, arXiv:2305.18290, eq. 5):

- DPO (eq. 7) over all pairs: -1/C(K,2) sum log sigmoid(s_w - s_l), what equation 1 of InstructGPT is for the reward model. K = 2 is DPO.
- K-wise DPO (eq. 20): -log of the Plackett-Luce probability of the ranking. Ties say nothing about their order, so the probabilities of all
  orders that agree with the ranking are summed. K = 2 is DPO here too.
- IPO (arXiv:2310.12036, eq. 17) over all pairs: (r_w - r_l - 1 / (2 beta))^2, weighted as DPO's.
- KTO (arXiv:2402.01306, eq. 8): weight x (1 - sigmoid(+-(s - beta z))), z the KL to the reference as the whole batch estimates it, a constant.

All are means over comparisons, whatever their K; KTO's is one over thumbs. Left out: label smoothing, and models of ties as an outcome of their
own (Rao and Kupper), which a rater who is not asked for ties does not give.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from modelyard.model.network.model_config import Precision
from modelyard.model.training.batch import Batch, LossFn, LossOutput
from modelyard.posttrain.losses import NO_COMPARISON, pairs_of
from modelyard.posttrain.preference.config import ContrastConfig, IPOConfig, KTOConfig, KWiseDPOConfig, PreferenceConfig
from modelyard.posttrain.rows.masking import masked_sum
from modelyard.stats import ties


def preference_loss(config: PreferenceConfig) -> LossFn:
    """The loss of ``config``'s algorithm.

    Extras: ``mask`` [b, S], 1 on completions; [b] each: ``reference``, log p of the completion by the reference model, ``rank`` (higher is
    better) and ``comparison`` (:data:`NO_COMPARISON` on rows that only fill a micro-batch). With ``sft_coef`` also ``ce_weight`` [b, S]; for
    KTO [b] each ``thumb`` (1 good, -1 bad, 0 neither), ``weight``, ``liked``, ``disliked`` (means over a side,
    :func:`modelyard.posttrain.preference.rows.with_thumbs`) and ``kl``, the z above.
    """

    def loss_fn(logprobs: Tensor, batch: Batch) -> LossOutput:
        mask, reference, ranks, comparison = (batch.extras[key] for key in ("mask", "reference", "rank", "comparison"))
        ratios = torch.where(mask.bool(), logprobs, torch.zeros_like(logprobs)).sum(dim=1) - reference
        ratios = torch.where(comparison == NO_COMPARISON, torch.zeros_like(ratios), ratios)
        if isinstance(config, ContrastConfig) and config.length_normalised:
            ratios = ratios / mask.sum(dim=1).clamp(min=1)
        scores = config.beta * ratios
        if isinstance(config, KTOConfig):
            return thumbs_loss(config, scores, batch)
        pairs = pairs_of(scores, ranks, comparison)
        if isinstance(config, KWiseDPOConfig):
            loss = rankings_loss(scores, ranks, comparison)
        elif isinstance(config, IPOConfig):
            loss = ((ratios[:, None] - ratios[None, :] - 1 / (2 * config.beta)) ** 2 * pairs.weights).sum()
        else:
            loss = (pairs.losses * pairs.weights).sum()
        metrics = {"preference": loss.detach(), **_watched(scores.detach(), pairs.shares, config.precision)}
        if isinstance(config, ContrastConfig) and config.sft_coef:
            ce = -masked_sum(logprobs, batch.extras["ce_weight"])
            loss = loss + config.sft_coef * ce
            metrics["sft"] = ce.detach()
        return LossOutput(loss, pairs.shares.sum().round(), metrics)

    return loss_fn


def _watched(scores: Tensor, shares: Tensor, precision: Precision) -> dict[str, Tensor]:
    """Sums over comparisons of what to watch: how often the preferred completion has the greater reward, and both rewards."""
    return {
        "accuracy": (shares * ties.preferred(scores[:, None], scores[None, :], precision)).sum(),
        "margin": (shares * (scores[:, None] - scores[None, :])).sum(),
        "reward/chosen": (shares * scores[:, None]).sum(),
        "reward/rejected": (shares * scores[None, :]).sum(),
    }


def thumbs_loss(config: KTOConfig, scores: Tensor, batch: Batch) -> LossOutput:
    """KTO's loss of completions with implicit rewards ``scores`` [b]; ``accuracy`` is how often a reward lies on its thumb's side of beta z."""
    thumb, weight, kl, liked, disliked = (batch.extras[key] for key in ("thumb", "weight", "kl", "liked", "disliked"))
    bound, seen = config.beta * kl, scores.detach()
    loss = (weight * (1 - torch.sigmoid(thumb * (scores - bound)))).sum()
    chosen, rejected = (liked * seen).sum(), (disliked * seen).sum()
    metrics = {
        "preference": loss.detach(),
        "accuracy": (thumb.abs() * ties.preferred(thumb * seen, thumb * bound, config.precision)).sum(),
        "margin": chosen - rejected,
        "reward/chosen": chosen,
        "reward/rejected": rejected,
    }
    return LossOutput(loss, thumb.abs().sum(), metrics)


def rankings_loss(scores: Tensor, ranks: Tensor, comparison: Tensor) -> Tensor:
    """Sum of :func:`ranking_loss` over the comparisons of a micro-batch: scores, ``ranks`` (higher is better) and ``comparison`` [E]."""
    better, groups = ranks.tolist(), comparison.tolist()
    loss = scores.sum() * 0
    for group in sorted(set(groups) - {NO_COMPARISON}):
        mine = [place for place, name in enumerate(groups) if name == group]
        loss = loss + ranking_loss(scores[mine], [better[place] for place in mine])
    return loss


def ranking_loss(scores: Tensor, ranks: Sequence[int]) -> Tensor:
    """-log of the Plackett-Luce probability [] of a ranking of K texts with ``scores`` [K], ties included; the highest rank is best.

    The orders that agree with a ranking put all texts of a rank before all that are ranked lower, in any order among themselves, so the
    probability is a product over ranks. The last rank's factor is 1.
    """
    loss = scores.sum() * 0
    levels = sorted(set(ranks), reverse=True)
    for level in levels[:-1]:
        tied = [place for place, rank in enumerate(ranks) if rank == level]
        lower = [place for place, rank in enumerate(ranks) if rank < level]
        loss = loss - log_first(scores[tied], torch.logsumexp(scores[lower], 0))
    return loss


def log_first(tied: Tensor, rest: Tensor) -> Tensor:
    """log of the probability [] that texts with scores ``tied`` [m] are all drawn before any of the others, whose log sum of exp is ``rest``.

    P(S), that exactly the set S of them is drawn first, is the sum over the last one i drawn of P(S without i) x exp(s_i) / (what was left):
    2^m sets instead of m! orders (a ranking of nine has at most eight tied above its last rank).
    """
    members = range(len(tied))
    drawn = {0: torch.zeros_like(rest)}
    for subset in range(1, 1 << len(tied)):
        ways = []
        for last in (i for i in members if subset >> i & 1):
            left = [i for i in members if i == last or not subset >> i & 1]
            ways.append(drawn[subset ^ 1 << last] + tied[last] - torch.logsumexp(torch.cat([tied[left], rest[None]]), 0))
        drawn[subset] = torch.logsumexp(torch.stack(ways), 0)
    return drawn[(1 << len(tied)) - 1]
