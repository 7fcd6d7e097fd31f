"""The losses of the DPO family against the papers' equations, computed one completion, one pair and one order at a time."""

import math
from itertools import pairwise, permutations

import pytest
import torch
from torch import Tensor

from modelyard.model.training.batch import Batch
from modelyard.posttrain.losses import NO_COMPARISON
from modelyard.posttrain.preference.config import PreferenceConfig
from modelyard.posttrain.preference.losses import preference_loss, ranking_loss

from .preferences import dpo_config, ipo_config, kto_config, kwise_config

pytestmark = pytest.mark.numerics

RANKS = {0: [2, 1, 1, 3], 1: [1, 2], 2: [1, 2, 2], 3: [3, 1, 2]}
"""Comparison -> ranks of its completions, 1 best: a tie above the last rank, a pair, a tie at the last rank, none."""
ROWS = [(c, k) for c, ranks in RANKS.items() for k in range(len(ranks))]
BETA, Z = 0.3, 0.7


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def compared() -> tuple[Batch, Tensor]:
    """The completions and a row that is none; log-probabilities [13, 5] with a gradient."""
    size = len(ROWS) + 1
    mask = (random(size, 5, seed=1) > -0.3).float()
    mask[:, 0] = 1
    mask[-1] = 0
    labelled = torch.tensor([float(RANKS[c][k] == min(RANKS[c])) for c, k in ROWS] + [0.0])
    best = mask * labelled[:, None]
    thumbs = [thumb(c, k) for c, k in ROWS]
    extras = {
        "mask": mask,
        "reference": torch.cat([random(len(ROWS), seed=2) - 4, torch.zeros(1)]),
        "comparison": torch.tensor([c for c, _ in ROWS] + [NO_COMPARISON]),
        "rank": torch.tensor([-RANKS[c][k] for c, k in ROWS] + [0]),
        "ce_weight": best * (len(RANKS) / best.sum()),
        "thumb": torch.tensor([*thumbs, 0.0]),
        "weight": torch.tensor([{1: 1.0, -1: 1.25, 0: 0.0}[t] for t in thumbs] + [0.0]),
        "liked": torch.tensor([(t > 0) * sum(map(abs, thumbs)) / thumbs.count(1) for t in thumbs] + [0.0]),
        "disliked": torch.tensor([(t < 0) * sum(map(abs, thumbs)) / thumbs.count(-1) for t in thumbs] + [0.0]),
        "kl": torch.full((size,), Z),
    }
    tokens = torch.zeros(size, 5, dtype=torch.int64)
    return Batch(tokens, tokens, extras), (random(size, 5, seed=3) - 1).requires_grad_()


def thumb(c: int, k: int) -> float:
    below, above = (sum(sign * other > sign * RANKS[c][k] for other in RANKS[c]) for sign in (1, -1))
    return float((below > above) - (below < above))


def ratios(batch: Batch, logprobs: Tensor, a_token: bool) -> dict[tuple[int, int], Tensor]:
    """(comparison, completion) -> log pi / pi_ref."""
    found = {}
    for row, key in enumerate(ROWS):
        places = [t for t in range(5) if batch.extras["mask"][row, t]]
        ratio = sum(logprobs[row, t] for t in places) - batch.extras["reference"][row]
        found[key] = ratio / len(places) if a_token else ratio
    return found


def slow_pairs(r: dict[tuple[int, int], Tensor], pair_loss: object) -> Tensor:
    losses = []
    for c, ranks in RANKS.items():
        pairs = [(w, lo) for w in range(len(ranks)) for lo in range(len(ranks)) if ranks[w] < ranks[lo]]
        losses.append(sum(pair_loss(r[c, w], r[c, lo]) for w, lo in pairs) / math.comb(len(ranks), 2))
    return sum(losses) / len(losses)


def slow_ranking(scores: list[Tensor], ranks: list[int]) -> Tensor:
    """-log of the sum over all orders that the ranking allows of the Plackett-Luce probability (DPO's eq. 18)."""
    total = 0.0
    for order in permutations(range(len(ranks))):
        if any(ranks[a] > ranks[b] for a, b in pairwise(order)):
            continue
        probability = 1.0
        for place, k in enumerate(order):
            probability = probability * scores[k].exp() / sum(scores[other].exp() for other in order[place:])
        total = total + probability
    return -torch.log(total)


def slow_kto(r: dict[tuple[int, int], Tensor]) -> Tensor:
    losses = []
    for key, ratio in r.items():
        if thumb(*key) > 0:
            losses.append(1.0 * (1 - torch.sigmoid(BETA * (ratio - Z))))
        elif thumb(*key) < 0:
            losses.append(1.25 * (1 - torch.sigmoid(BETA * (Z - ratio))))
    assert 0 < len(losses) < len(ROWS)
    return sum(losses) / len(losses)


def slow(config: PreferenceConfig, batch: Batch, logprobs: Tensor) -> Tensor:
    r = ratios(batch, logprobs, getattr(config, "length_normalised", False))
    match config.algorithm:
        case "dpo":
            return slow_pairs(r, lambda w, lo: -torch.log(torch.sigmoid(BETA * w - BETA * lo)))
        case "ipo":
            return slow_pairs(r, lambda w, lo: (w - lo - 1 / (2 * BETA)) ** 2)
        case "kwise_dpo":
            parts = [slow_ranking([BETA * r[c, k] for k in range(len(ranks))], ranks) for c, ranks in RANKS.items()]
            return sum(parts) / len(parts)
    return slow_kto(r)


@pytest.mark.parametrize(
    "config",
    [
        dpo_config(beta=BETA, sft_coef=0.0),
        dpo_config(beta=BETA, sft_coef=0.0, length_normalised=True),
        ipo_config(beta=BETA, sft_coef=0.0, length_normalised=True),
        ipo_config(beta=BETA, sft_coef=0.0),
        kwise_config(beta=BETA, sft_coef=0.0),
        kto_config(beta=BETA),
    ],
    ids=lambda config: config.algorithm,
)
def test_preference_loss_equals_the_papers_equation(config: PreferenceConfig) -> None:
    batch, logprobs = compared()
    result = preference_loss(config)(logprobs, batch)
    expected = slow(config, batch, logprobs)
    assert float(result.count) == (sum(thumb(*key) != 0 for key in ROWS) if config.algorithm == "kto" else len(RANKS))
    torch.testing.assert_close(result.loss_sum / result.count, expected)
    theirs, ours = (torch.autograd.grad(loss, logprobs)[0] for loss in (expected, result.loss_sum / result.count))
    torch.testing.assert_close(ours, theirs)


def test_preference_loss_with_sft_adds_mean_loss_of_the_best_completions() -> None:
    batch, logprobs = compared()
    with_sft, without = (
        preference_loss(dpo_config(beta=BETA, sft_coef=coefficient))(logprobs, batch).loss_sum / len(RANKS) for coefficient in (0.2, 0.0)
    )
    best = [row for row, (c, k) in enumerate(ROWS) if RANKS[c][k] == min(RANKS[c])]
    tokens = [-logprobs[row, t] for row in best for t in range(5) if batch.extras["mask"][row, t]]
    torch.testing.assert_close(with_sft, without + 0.2 * sum(tokens) / len(tokens))


def test_preference_losses_of_a_pair_are_one() -> None:
    """K = 2: all pairs and Plackett-Luce are both Bradley-Terry; rewards 1 and 0 give log(1 + 1/e)."""
    assert float(ranking_loss(torch.tensor([0.0, 1.0]), [-2, -1])) == pytest.approx(math.log1p(math.exp(-1)))


def test_ranking_loss_three_texts_hand_worked() -> None:
    """Weights 4, 2, 1 ranked in order: 4/7 x 2/3; with the first two tied also the order 2, 4, 1: 2/7 x 4/5 more."""
    scores = torch.tensor([4.0, 2.0, 1.0]).log()
    assert float(ranking_loss(scores, [3, 2, 1])) == pytest.approx(-math.log(4 / 7 * 2 / 3))
    assert float(ranking_loss(scores, [2, 2, 1])) == pytest.approx(-math.log(4 / 7 * 2 / 3 + 2 / 7 * 4 / 5))


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_ranking_loss_of_nine_with_eight_tied_is_finite_and_equals_the_race(scale: float) -> None:
    """P(the last is drawn last) by inclusion and exclusion over the tied; scores far apart overflow nothing."""
    scores = (random(9, seed=4) * scale).double().requires_grad_()
    loss = ranking_loss(scores, [2] * 8 + [1])
    (gradient,) = torch.autograd.grad(loss, scores)
    assert torch.isfinite(gradient).all()
    assert float(gradient.sum()) == pytest.approx(0.0, abs=1e-9)
    if scale == 1.0:
        weights = scores.detach().exp().tolist()
        total = 0.0
        for subset in range(1 << 8):
            chosen = sum(weights[i] for i in range(8) if subset >> i & 1)
            total += (-1) ** subset.bit_count() * weights[8] / (weights[8] + chosen)
        assert float(loss) == pytest.approx(-math.log(total), rel=1e-9)


@pytest.mark.parametrize("garbage", [1e4, float("nan"), float("inf")])
@pytest.mark.parametrize("make", [dpo_config, ipo_config, kwise_config, kto_config])
def test_preference_losses_masked_positions_never_matter(make: object, garbage: float) -> None:
    batch, logprobs = compared()
    soiled = torch.where(batch.extras["mask"] > 0, logprobs.detach(), torch.full_like(logprobs, garbage)).requires_grad_()
    expected, got = (preference_loss(make(beta=BETA))(output, batch).loss_sum for output in (logprobs, soiled))
    assert torch.equal(expected, got)
    theirs, ours = torch.autograd.grad(expected, logprobs)[0], torch.autograd.grad(got, soiled)[0]
    assert torch.equal(theirs, ours)
    assert (ours[batch.extras["mask"] == 0] == 0).all()


def test_kto_watches_both_sides_and_how_many_rewards_lie_on_their_thumbs_side() -> None:
    batch, logprobs = compared()
    result = preference_loss(kto_config(beta=BETA))(logprobs, batch)
    watched = {name: float(value / result.count) for name, value in result.metrics.items()}
    scores = {key: float(BETA * ratio) for key, ratio in ratios(batch, logprobs, False).items()}
    up, down = ([score for key, score in scores.items() if thumb(*key) == side] for side in (1, -1))
    assert watched["reward/chosen"] == pytest.approx(sum(up) / len(up), rel=1e-5)
    assert watched["reward/rejected"] == pytest.approx(sum(down) / len(down), rel=1e-5)
    assert watched["margin"] == pytest.approx(sum(up) / len(up) - sum(down) / len(down), rel=1e-4)
    right = [score > BETA * Z for score in up] + [score < BETA * Z for score in down]
    assert watched["accuracy"] == pytest.approx(sum(right) / len(right))
