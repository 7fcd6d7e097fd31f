"""Importance weights of samples that another engine drew, by hand, in the update, and when the two engines are not one model."""

import math
from dataclasses import dataclass

import pytest
import torch
from pydantic import ValidationError

from modelyard.model.training.batch import Batch
from modelyard.posttrain.losses import policy_loss
from modelyard.posttrain.policy.algorithms import signal, terms_of
from modelyard.posttrain.policy.config import OnPolicyConfig, RolloutsConfig
from modelyard.posttrain.policy.mismatch import GenerationDriftError, corrected, importance, require_same_model
from modelyard.posttrain.policy.rollout import Rollout
from modelyard.posttrain.policy.update import policy_batches

from .policies import grpo_config, rloo_config
from .test_algorithms import TOGETHER, random, rollout

SERVED = {"rollouts": {"backend": "server"}}


def test_importance_three_tokens_by_hand() -> None:
    """Probabilities 0.5, 0.2 and 0.6 of the trainer, 0.4, 0.4 and 0.2 of the sampler: weights 1.25, 0.5 and 3."""
    trainer, sampler = (torch.tensor([[0.0, *map(math.log, p)]]) for p in ((0.5, 0.2, 0.6), (0.4, 0.4, 0.2)))
    trainer[0, 0] = float("nan")  # outside the mask nothing is read
    found = importance(trainer, sampler, torch.tensor([[0.0, 1.0, 1.0, 1.0]]), cap=2.0)
    torch.testing.assert_close(found.weights, torch.tensor([[0.0, 1.25, 0.5, 2.0]]))
    assert found.notes == pytest.approx(
        {
            "sampler/weight_mean": 4.75 / 3,
            "sampler/weight_max": 3.0,
            "sampler/effective": 4.75**2 / (3 * (1.25**2 + 0.5**2 + 3**2)),
            "sampler/kl": (4.75 - 3 - math.log(1.25) - math.log(0.5) - math.log(3)) / 3,
            "sampler/truncated": 1 / 3,
        },
        rel=1e-5,
    )


def test_importance_kl_of_two_distributions_is_the_exact_one_in_expectation() -> None:
    """All tokens of a vocabulary of four, each as often as the sampler draws it."""
    sampler, trainer = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.25, 0.25, 0.4, 0.1])
    drawn = torch.tensor([0] * 4 + [1] * 3 + [2] * 2 + [3])
    found = importance(trainer.log()[drawn][None], sampler.log()[drawn][None], torch.ones(1, 10), cap=10.0)
    assert found.notes["sampler/weight_mean"] == pytest.approx(1.0, abs=1e-6)
    assert found.notes["sampler/kl"] == pytest.approx(float((sampler * (sampler / trainer).log()).sum()), abs=1e-6)


@pytest.mark.numerics
@pytest.mark.parametrize("make", [grpo_config, rloo_config])
def test_update_of_a_servers_samples_weighs_every_token_of_surrogate_and_kl(make: type[OnPolicyConfig]) -> None:
    """The gradient is the sum over tokens of weight x what the token has without weights, truncated at the cap."""
    config = make(**TOGETHER, **SERVED, kl_coef=0.1)
    drawn = rollout(random(8, seed=3))
    drawn = drawn._replace(sampler_logprobs=(drawn.logprobs + random(8, 6, seed=4)) * drawn.rows.mask)
    weighted = corrected(config, drawn)
    expected = (drawn.logprobs - drawn.sampler_logprobs).exp().clamp(max=2.0) * drawn.rows.mask
    torch.testing.assert_close(weighted.weights, expected)
    assert (expected == 2.0).any()
    assert ((expected > 0) & (expected < 2.0)).any()
    plain, found = (gradient(config, one) for one in (drawn, weighted))
    assert float(plain.abs().max()) > 0
    torch.testing.assert_close(found, plain * expected)


def gradient(config: OnPolicyConfig, drawn: Rollout) -> torch.Tensor:
    """[N, S]: of the loss by the log-probabilities that the samples were drawn with."""
    logprobs = drawn.logprobs.clone().requires_grad_()
    (batch,) = policy_batches(config, [], drawn, signal(config, drawn, 0.1), torch.arange(8), 0)
    assert isinstance(batch, Batch)
    result = policy_loss(terms_of(config, 0.1))(logprobs, batch)
    (result.loss_sum / result.count).backward()
    assert logprobs.grad is not None
    return logprobs.grad


@dataclass
class Case:
    """How far the sampler is from the policy, and what the config allows."""

    drift: float
    precision: str
    limit: float | None
    refused: bool


@pytest.mark.parametrize(
    "case",
    [
        Case(9e-4, "fp32", None, False),
        Case(2e-3, "fp32", None, True),
        Case(2e-3, "fp32", 0.01, False),
        Case(0.09, "bf16", None, False),
        Case(0.11, "bf16", None, True),
        Case(0.03, "bf16", 0.02, True),
        Case(float("nan"), "bf16", 1.0, True),
    ],
)
def test_sampler_further_away_than_the_bound_is_refused_in_one_line(case: Case) -> None:
    rollouts = {"backend": "server", **({} if case.limit is None else {"max_mismatch": case.limit})}
    config = grpo_config(precision=case.precision, rollouts=rollouts)
    drawn = rollout(random(8, seed=3))._replace(drift=case.drift, notes={"sampler/weight_max": 7.0})
    if not case.refused:
        require_same_model(config, drawn, 3)
        return
    with pytest.raises(
        GenerationDriftError, match=r"iteration 3: .*largest importance weight 7.*policy\.rollouts\.max_mismatch"
    ) as refusal:
        require_same_model(config, drawn, 3)
    assert "\n" not in str(refusal.value)


def test_samples_of_the_own_engine_stay_as_they_are() -> None:
    drawn = rollout(random(8, seed=3))
    assert corrected(grpo_config(), drawn) is drawn


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"backend": "vllm"}, "Input should be 'own' or 'server'"),
        ({"backend": "own", "max_mismatch": 0.1}, "max_mismatch is of samples that a server draws"),
        ({"weight_cap": 3.0}, "weight_cap is of samples that a server draws"),
        ({"backend": "server", "weight_cap": 0.5}, "greater than or equal to 1"),
        ({"backend": "server", "max_mismatch": 0.0}, "greater than 0"),
        ({"backend": "server", "top_p": 0.9}, "Extra inputs"),
    ],
)
def test_rollouts_config_impossible_values_are_refused(table: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RolloutsConfig(**table)
