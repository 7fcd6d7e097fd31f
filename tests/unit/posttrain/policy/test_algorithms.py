"""The weights that make one trainer GRPO, Dr. GRPO, DAPO or RLOO, against the papers' sums over completions and tokens."""

import pytest
import torch
from torch import Tensor

from modelyard.model.training.batch import Batch
from modelyard.posttrain.losses import policy_loss
from modelyard.posttrain.policy.algorithms import signal, terms_of
from modelyard.posttrain.policy.config import OnPolicyConfig
from modelyard.posttrain.policy.rollout import Rollout
from modelyard.posttrain.policy.update import policy_batches
from modelyard.posttrain.rows.completions import alone
from modelyard.posttrain.rows.masking import Rows

from .policies import grpo_config, opd_config, rloo_config

pytestmark = pytest.mark.numerics

LENGTHS = [1, 4, 2, 3, 4, 4, 1, 2]
"""Of the completions of two prompts, four each."""
TOGETHER = {"episodes": 8, "minibatches": 1, "group": 4, "ptx_coef": 0.0, "ptx_rows": 0, "max_new_tokens": 5}


def random(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def rollout(scores: Tensor) -> Rollout:
    """Eight completions that begin at the second position, by models that differ a little."""
    mask = torch.zeros(8, 6)
    for row, length in enumerate(LENGTHS):
        mask[row, 1 : 1 + length] = 1
    old = random(8, 6, seed=1, scale=0.2) - 2
    rows = Rows(torch.zeros(8, 6, dtype=torch.int64), torch.zeros(8, 6, dtype=torch.int64), mask)
    ended = torch.ones(8, dtype=torch.bool)
    return Rollout(
        alone(rows),
        [[0] * length for length in LENGTHS],
        ended,
        old,
        old + random(8, 6, seed=2, scale=0.2),
        None,
        {"model": scores},
        0.0,
        {},
        old + random(8, 6, seed=6),
    )


def trained(config: OnPolicyConfig, drawn: Rollout, logprobs: Tensor, kl_coef: float) -> Tensor:
    """What the engine minimises."""
    (batch,) = policy_batches(config, [], drawn, signal(config, drawn, kl_coef), torch.arange(8), 0)
    assert isinstance(batch, Batch)
    result = policy_loss(terms_of(config, kl_coef))(logprobs, batch)
    return result.loss_sum / result.count


@pytest.mark.parametrize(
    "options",
    [
        {"scale": "group", "mean": "sequence"},
        {"scale": "batch", "mean": "token", "clip_range_high": 0.28},
        {"scale": "none", "mean": "longest"},
    ],
    ids=["grpo", "dapo", "dr_grpo"],
)
def test_grpo_objective_equals_the_papers_sum(options: dict) -> None:
    config = grpo_config(**{**TOGETHER, "minibatches": 2}, **options)  # of which this is a later one: the policy has moved
    drawn, beta = rollout(random(8, seed=3)), 0.3
    logprobs = (drawn.logprobs + random(8, 6, seed=4, scale=0.3)).requires_grad_()
    losses: list[list[Tensor]] = []
    for i, score in enumerate(drawn.scores.tolist()):
        mates = drawn.scores[i // 4 * 4 : i // 4 * 4 + 4].tolist()
        advantage = score - sum(mates) / 4
        pool = {"group": mates, "batch": drawn.scores.tolist(), "none": None}[config.scale]
        if pool is not None:
            average = sum(pool) / len(pool)
            advantage /= (sum((x - average) ** 2 for x in pool) / (len(pool) - 1)) ** 0.5 + 1e-4
        tokens = []
        for t in range(1, 1 + LENGTHS[i]):
            ratio = torch.exp(logprobs[i, t] - drawn.logprobs[i, t])
            surrogate = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1 + (config.clip_range_high or 0.2)) * advantage)
            other = torch.exp(drawn.reference_logprobs[i, t] - logprobs[i, t])
            tokens.append(beta * (other - torch.log(other) - 1) - surrogate)
        losses.append(tokens)
    expected = {
        "sequence": lambda: sum(sum(one) / len(one) for one in losses) / 8,
        "token": lambda: sum(sum(one) for one in losses) / sum(LENGTHS),
        "longest": lambda: sum(sum(one) for one in losses) / (8 * 5),
    }[config.mean]()
    found = trained(config, drawn, logprobs, beta)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logprobs)[0], torch.autograd.grad(expected, logprobs)[0])


def test_rloo_gradient_where_the_policy_sampled_is_reinforce_with_the_others_as_baseline() -> None:
    config, drawn, beta = rloo_config(**TOGETHER), rollout(random(8, seed=5)), 0.3
    logprobs = drawn.logprobs.clone().requires_grad_()
    charged = []
    for i, score in enumerate(drawn.scores.tolist()):
        away = [float(drawn.logprobs[i, t] - drawn.reference_logprobs[i, t]) for t in range(1, 1 + LENGTHS[i])]
        charged.append(score - beta * sum(away))
    objective = 0.0
    for i, reward in enumerate(charged):
        others = [charged[k] for k in range(i // 4 * 4, i // 4 * 4 + 4) if k != i]
        objective = objective + (reward - sum(others) / 3) * sum(logprobs[i, t] for t in range(1, 1 + LENGTHS[i])) / 8
    expected = torch.autograd.grad(-objective, logprobs)[0]
    torch.testing.assert_close(torch.autograd.grad(trained(config, drawn, logprobs, beta), logprobs)[0], expected)


def test_group_whose_rewards_are_equal_teaches_nothing_and_is_counted() -> None:
    scores = torch.tensor([2.0, 2.0, 2.0, 2.0, 0.0, 1.0, 0.0, 1.0])
    for config in (grpo_config(**TOGETHER), rloo_config(**{**TOGETHER, "kl_coef": 0.0})):
        taught = signal(config, rollout(scores), 0.0)
        assert (taught.advantages[:4] == 0).all()
        assert taught.notes["group/flat"] == 0.5
        assert taught.advantages[5, 1] > 0 > taught.advantages[4, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("teacher")
def test_distilled_gradient_is_in_expectation_that_of_the_next_tokens_reverse_kl() -> None:
    """Every token of a vocabulary of five is sampled in each of four places as often as the policy would, and no other is: the sum over samples is
    the expectation, whose gradient is autograd's of sum pi (log pi - log p_teacher)."""
    logits = random(4, 5, seed=7).double().requires_grad_()
    log_teacher = torch.log_softmax(random(4, 5, seed=8).double(), 1)
    logprobs = torch.log_softmax(logits, 1)
    old = logprobs.detach()
    reverse = (logprobs.exp() * (logprobs - log_teacher)).sum(1).mean()
    (expected,) = torch.autograd.grad(reverse, logits, retain_graph=True)
    config, total = opd_config(episodes=1, minibatches=1, micro_batch=1, ptx_coef=0.0, ptx_rows=0), torch.zeros(4, 5).double()
    for token in range(5):  # one completion of four tokens for each of the vocabulary, weighted below by how often it is sampled
        mask, picked = torch.ones(1, 4).double(), [x[None, :, token] for x in (old, log_teacher, logprobs)]
        rows = Rows(torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.int64), mask)
        scores = {"model": torch.tensor([9.0])}
        drawn = Rollout(
            alone(rows), [[token] * 4], torch.ones(1, dtype=torch.bool), picked[0], picked[0] - 1, None, scores, 0.0, {}, picked[1]
        )
        (batch,) = policy_batches(config, [], drawn, signal(config, drawn, 0.0), torch.arange(1), 0)
        result = policy_loss(terms_of(config, 0.0))(picked[2], batch)
        (taken,) = torch.autograd.grad(result.loss_sum / result.count, picked[2], retain_graph=True)
        total += torch.autograd.grad((taken * old.exp()[None, :, token] * picked[2]).sum(), logits, retain_graph=True)[0]
    torch.testing.assert_close(total, expected)


@pytest.mark.usefixtures("teacher")
def test_distilled_objective_equals_the_clipped_sum_over_tokens_and_knows_no_reward() -> None:
    config = opd_config(episodes=8, minibatches=1, ptx_coef=0.0, ptx_rows=0)
    drawn = rollout(random(8, seed=3))
    logprobs = (drawn.logprobs + random(8, 6, seed=4, scale=0.3)).requires_grad_()
    losses = []
    for i, length in enumerate(LENGTHS):
        for t in range(1, 1 + length):
            advantage = float(drawn.teacher_logprobs[i, t] - drawn.logprobs[i, t])
            ratio = torch.exp(logprobs[i, t] - drawn.logprobs[i, t])
            losses.append(-torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage))
    expected, found = sum(losses) / len(losses), trained(config, drawn, logprobs, 0.0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logprobs)[0], torch.autograd.grad(expected, logprobs)[0])
    other = drawn._replace(parts={"model": random(8, seed=9)})
    assert torch.equal(trained(config, other, logprobs, 0.0), found)
