"""Losses against loops that follow the papers' formulas one element at a time: values and gradients."""

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from modelyard.model.training.batch import Batch
from modelyard.posttrain.losses import NO_COMPARISON, LossFn, Terms, policy_loss, reward_loss, sft_loss, value_loss

pytestmark = pytest.mark.numerics

MASK = torch.tensor([[0.0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 0]])


def make_batch(**extras: Tensor) -> Batch:
    tokens = torch.zeros(MASK.shape, dtype=torch.int64)
    return Batch(tokens, tokens, extras)


def random(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(*(shape or MASK.shape), generator=torch.Generator().manual_seed(seed)) * scale


def policy_extras(rows: int = 0) -> dict[str, Tensor]:
    """Sampled rows as in MASK, the last ``rows`` of them pretraining text instead."""
    mask, ce = MASK.clone(), torch.zeros_like(MASK)
    if rows:
        mask[-rows:], ce[-rows:] = 0.0, 1.0
        ce *= mask.sum() / ce.sum()
    weights = {"rl_weight": random(2), "ce_weight": ce, "kl_weight": random(8).abs()}
    return {"mask": mask, "old_logprobs": random(1, scale=0.3) - 2, "reference_logprobs": random(9, scale=0.3) - 2, **weights}


def slow_policy(logprobs: Tensor, extras: dict[str, Tensor], terms: Terms) -> Tensor:
    tokens, text, away = [], [], []
    for b in range(MASK.shape[0]):
        for t in range(MASK.shape[1]):
            if extras["mask"][b, t]:
                ratio = torch.exp(logprobs[b, t] - extras["old_logprobs"][b, t])
                a = float(extras["rl_weight"][b, t])
                bounded = min(max(float(ratio.detach()), 1 - terms.clip_low), 1 + terms.clip_high)
                # the smaller objective is optimised; a bounded ratio has no gradient
                tokens.append(-a * ratio if a * float(ratio.detach()) <= a * bounded else torch.tensor(-a * bounded))
                other = torch.exp(extras["reference_logprobs"][b, t] - logprobs[b, t])
                away.append(extras["kl_weight"][b, t] * (other - torch.log(other) - 1))
            if extras["ce_weight"][b, t]:
                text.append(-logprobs[b, t])
    kept = sum(text) / len(text) if text else 0.0
    return sum(tokens) / len(tokens) + terms.ce_coef * kept + terms.kl_coef * sum(away) / len(away)


def check(loss_fn: LossFn, batch: Batch, output: Tensor, slow: Tensor, leaf: Tensor) -> None:
    """The engine's quotient and its gradient equal the slow loss's."""
    result = loss_fn(output, batch)
    fast = result.loss_sum / result.count
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(torch.autograd.grad(fast, leaf)[0], torch.autograd.grad(slow, leaf)[0])


def test_sft_loss_masked_rows_is_mean_over_completion_tokens() -> None:
    logprobs = random(0).requires_grad_()
    slow = -sum(logprobs[b, t] for b in range(3) for t in range(4) if MASK[b, t]) / 7
    check(sft_loss, make_batch(mask=MASK), logprobs, slow, logprobs)


@pytest.mark.parametrize("terms", [Terms(0.2, 0.2, 0.0, 0.0), Terms(0.2, 0.2, 27.8, 0.0), Terms(0.1, 0.3, 27.8, 0.7)])
def test_policy_loss_of_one_two_and_three_terms_equals_loop(terms: Terms) -> None:
    extras = policy_extras(rows=1 if terms.ce_coef else 0)
    logprobs = (random(3, scale=0.3) - 2).requires_grad_()
    check(policy_loss(terms), make_batch(**extras), logprobs, slow_policy(logprobs, extras, terms), logprobs)


def test_policy_loss_hand_worked_three_tokens() -> None:
    """Ratios 1.5, 0.5 and 1.1 with clip 0.2 and weights 1, -1, 2: min objectives 1.2, -0.8, 2.2."""
    ratio = torch.tensor([[1.5, 0.5, 1.1]])
    extras = {
        "mask": torch.ones(1, 3),
        "old_logprobs": torch.zeros(1, 3),
        "rl_weight": torch.tensor([[1.0, -1, 2]]),
        "ce_weight": torch.zeros(1, 3),
    }
    result = policy_loss(Terms(0.2, 0.2, 0.0, 0.0))(ratio.log(), make_batch(**extras))
    assert float(result.loss_sum) == pytest.approx(-(1.2 - 0.8 + 2.2))
    assert float(result.metrics["policy/clipfrac"] / result.count) == pytest.approx(2 / 3)


def test_policy_loss_split_in_micro_batches_is_the_same() -> None:
    extras, loss_fn = policy_extras(rows=1), policy_loss(Terms(0.2, 0.2, 27.8, 0.7))
    logprobs = random(3, scale=0.3) - 2
    whole = loss_fn(logprobs, make_batch(**extras))
    parts = [
        loss_fn(logprobs[i : i + 1], Batch(torch.zeros(1, 4), torch.zeros(1, 4), {k: v[i : i + 1] for k, v in extras.items()}))
        for i in range(3)
    ]
    torch.testing.assert_close(sum(p.loss_sum for p in parts) / sum(p.count for p in parts), whole.loss_sum / whole.count)


def test_value_loss_equals_loop() -> None:
    extras = {"mask": MASK, "old_values": random(4), "returns": random(5)}
    values = random(6).requires_grad_()
    terms = []
    for b in range(3):
        for t in range(4):
            if MASK[b, t]:
                v, old, target = values[b, t], extras["old_values"][b, t], extras["returns"][b, t]
                limited = torch.minimum(torch.maximum(v, old - 0.2), old + 0.2)
                terms.append(0.5 * torch.stack([(v - target) ** 2, (limited - target) ** 2]).max())
    check(value_loss(0.2), make_batch(**extras), values, sum(terms) / len(terms), values)


TEXTS = {0: [(0, 4), (0, 2), (1, 3), (3, 0)], 1: [(1, 1), (2, 4)]}
"""Row and place of the last token of each text of comparison 0, which has a tie and rows of two texts and of one, and of comparison 1."""


def reward_batch() -> tuple[Batch, Tensor]:
    ends = torch.tensor([[4, 2], [1, 3], [4, 0], [0, 0], [0, 0]])
    comparison = torch.tensor([[0, 0], [1, 0], [1, NO_COMPARISON], [0, NO_COMPARISON], [NO_COMPARISON, NO_COMPARISON]])
    rank = torch.tensor([[3, 1], [0, 1], [4, 9], [-2, 9], [0, 1]])
    return make_batch(ends=ends, rank=rank, comparison=comparison), random(7, 5, 5).requires_grad_()


def test_reward_loss_ties_and_filling_equals_loop() -> None:
    batch, values = reward_batch()
    ranks = {0: [3, 1, 1, -2], 1: [0, 4]}
    losses = []
    for name, texts in TEXTS.items():
        terms = []
        for (one, better), (other, worse) in combinations(zip(texts, ranks[name], strict=True), 2):
            if better != worse:
                sign = 1 if better > worse else -1
                terms.append(torch.log(1 + torch.exp(-sign * (values[one] - values[other]))))
        assert len(terms) == {0: 5, 1: 1}[name]
        losses.append(sum(terms) / math.comb(len(texts), 2))  # the tie of comparison 0 stays in C(4, 2)
    check(reward_loss, batch, values, sum(losses) / 2, values)


def test_reward_loss_two_rows_hand_worked() -> None:
    """Scores 1 (preferred) and 0: -log sigmoid(1) = log(1 + 1/e)."""
    batch = make_batch(ends=torch.zeros(2, 1, dtype=torch.int64), rank=torch.tensor([[2], [-1]]), comparison=torch.tensor([[0], [0]]))
    result = reward_loss(torch.tensor([[1.0], [0.0]]), batch)
    assert float(result.loss_sum / result.count) == pytest.approx(math.log1p(math.exp(-1)))
    assert float(result.metrics["accuracy"]) == 1.0


def test_reward_loss_ties_give_up_their_weight_and_leave_rates_whole() -> None:
    """Scores 1 (best) and 0, 0 (tied): two of three pairs, each log(1 + 1/e) / 3; both are ordered rightly."""
    zeros = torch.zeros(3, 1, dtype=torch.int64)
    batch = make_batch(ends=zeros, rank=torch.tensor([[-1], [-2], [-2]]), comparison=zeros)
    result = reward_loss(torch.tensor([[1.0], [0.0], [0.0]]), batch)
    assert float(result.loss_sum / result.count) == pytest.approx(2 / 3 * math.log1p(math.exp(-1)))
    assert float(result.metrics["accuracy"] / result.count) == 1.0


@pytest.mark.parametrize("garbage", [1e4, float("nan"), float("inf")])
def test_losses_masked_positions_never_matter(garbage: float) -> None:
    reward, values = reward_batch()
    scored = torch.zeros(values.shape, dtype=torch.bool)
    for row, place in [*TEXTS[0], *TEXTS[1]]:
        scored[row, place] = True
    policy = make_batch(**policy_extras(rows=1))
    cases: list[tuple[LossFn, Batch, Tensor, Tensor]] = [
        (sft_loss, make_batch(mask=MASK), random(0), MASK > 0),
        (policy_loss(Terms(0.2, 0.2, 27.8, 0.7)), policy, random(3) - 2, policy.extras["mask"] + policy.extras["ce_weight"] > 0),
        (value_loss(0.2), make_batch(mask=MASK, old_values=random(4), returns=random(5)), random(6), MASK > 0),
        (reward_loss, reward, values.detach(), scored),
    ]
    for loss_fn, batch, clean, read in cases:
        output = clean.clone().requires_grad_()
        soiled = torch.where(read, clean, torch.full_like(clean, garbage)).requires_grad_()
        expected, got = loss_fn(output, batch), loss_fn(soiled, batch)
        assert torch.equal(expected.loss_sum, got.loss_sum)
        expected.loss_sum.backward()
        got.loss_sum.backward()
        assert torch.equal(output.grad, soiled.grad)
        assert (soiled.grad[~read] == 0).all()
