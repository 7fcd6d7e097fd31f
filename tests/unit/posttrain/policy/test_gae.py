"""Masks, per-token rewards, GAE and whitening against slow loops and hand-worked examples."""

import pytest
import torch

from modelyard.model.training.batch import UNLABELLED
from modelyard.posttrain.policy.gae import gae, whiten
from modelyard.posttrain.policy.rewards import sequence_kl, token_rewards
from modelyard.posttrain.rows.masking import Example, last_positions, pad_examples

MASK = torch.tensor([[0.0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0]])


def random(seed: int) -> torch.Tensor:
    return torch.randn(MASK.shape, generator=torch.Generator().manual_seed(seed))


def test_pad_examples_two_lengths_masks_completion_labels_only() -> None:
    rows = pad_examples([Example([5, 6], [7, 8]), Example([5], [9])], pad_id=4)
    assert rows.tokens.tolist() == [[5, 6, 7], [5, 4, 4]]
    assert rows.labels.tolist() == [[UNLABELLED, 7, 8], [9, UNLABELLED, UNLABELLED]]
    assert rows.mask.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert last_positions(rows.mask).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("examples", "length", "message"),
    [
        ([], None, "at least one example"),
        ([Example([], [1])], None, "at least one token"),
        ([Example([1, 2], [3, 4])], 2, "needs 3 positions"),
    ],
)
def test_pad_examples_bad_input_is_refused(examples: list[Example], length: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pad_examples(examples, 0, length)


def test_last_positions_empty_row_is_refused() -> None:
    with pytest.raises(ValueError, match="no completion"):
        last_positions(torch.zeros(1, 3))


def test_gae_three_tokens_hand_worked() -> None:
    """Rewards 0, 0, 1, values 0.5, 0.25, 0.75, lambda 0.5: deltas -0.25, 0.5, 0.25; A = 0.0625, 0.625, 0.25."""
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.25, 0.75]])
    result = gae(rewards, values, torch.ones(1, 3), lam=0.5)
    assert result.advantages.tolist() == [[0.0625, 0.625, 0.25]]
    assert result.returns.tolist() == [[0.5625, 0.875, 1.0]]


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_gae_masked_rows_equals_sum_over_deltas(lam: float) -> None:
    rewards, values = random(0), random(1)
    result = gae(rewards, values, MASK, lam)
    for b in range(3):
        at = [t for t in range(6) if MASK[b, t]]
        v = [float(values[b, t]) for t in at] + [0.0]
        deltas = [float(rewards[b, t]) + v[i + 1] - v[i] for i, t in enumerate(at)]
        for i, t in enumerate(at):
            advantage = sum(lam**k * deltas[i + k] for k in range(len(at) - i))
            assert float(result.advantages[b, t]) == pytest.approx(advantage, abs=1e-5)
            assert float(result.returns[b, t]) == pytest.approx(advantage + v[i], abs=1e-5)


def test_gae_garbage_outside_mask_changes_nothing() -> None:
    soiled = [torch.where(MASK.bool(), x, torch.full_like(x, float("nan"))) for x in (random(0), random(1))]
    clean = gae(random(0), random(1), MASK, 0.95)
    result = gae(*soiled, MASK, 0.95)
    assert torch.equal(result.advantages, clean.advantages)
    assert (result.advantages[~MASK.bool()] == 0).all()


@pytest.mark.parametrize("shift_mean", [True, False])
def test_whiten_masked_values_have_unit_variance(shift_mean: bool) -> None:
    values = random(2) * 3 + 1
    inside = whiten(torch.where(MASK.bool(), values, torch.full_like(values, float("nan"))), MASK, shift_mean)
    kept = inside[MASK.bool()]
    assert float(kept.var(unbiased=False)) == pytest.approx(1.0, abs=1e-5)
    assert float(kept.mean()) == pytest.approx(0.0 if shift_mean else float(values[MASK.bool()].mean()), abs=1e-5)
    assert (inside[~MASK.bool()] == 0).all()


def test_token_rewards_hand_worked() -> None:
    """KL coefficient 0.1, log-ratios 1 and -2, score 5 at the last completion token; padding earns nothing."""
    logprobs, reference = torch.tensor([[9.0, -1, -3, 9]]), torch.tensor([[0.0, -2, -1, 0]])
    mask = torch.tensor([[0.0, 1, 1, 0]])
    rewards = token_rewards(logprobs, reference, torch.tensor([5.0]), mask, 0.1)
    torch.testing.assert_close(rewards, torch.tensor([[0.0, -0.1, 5.2, 0.0]]))
    assert sequence_kl(logprobs, reference, mask).tolist() == [-1.0]
    assert float(rewards.sum()) == pytest.approx(5.0 - 0.1 * -1.0)


def test_whiten_hand_worked() -> None:
    """Values 1, 2, 3 (mean 2, variance 2/3) become -sqrt(3/2), 0, sqrt(3/2); with their mean kept, two more each."""
    values, mask = torch.tensor([[1.0, 2.0, 99.0], [3.0, 99.0, 99.0]]), torch.tensor([[1.0, 1, 0], [1, 0, 0]])
    root = 1.5**0.5
    torch.testing.assert_close(whiten(values, mask), torch.tensor([[-root, 0, 0], [root, 0, 0]]))
    torch.testing.assert_close(whiten(values, mask, shift_mean=False), torch.tensor([[2 - root, 2, 0], [2 + root, 0, 0]]))


@pytest.mark.parametrize("kl_coef", [0.0, 0.02, 1.0])
def test_token_rewards_random_rows_equal_loop(kl_coef: float) -> None:
    """Every completion token pays for its own log-ratio, the last one earns the score, and nothing else earns anything."""
    logprobs, reference, scores = random(3), random(4), torch.tensor([0.7, -1.3, 2.0])
    rewards = token_rewards(logprobs, reference, scores, MASK, kl_coef)
    for b in range(3):
        at = [t for t in range(6) if MASK[b, t]]
        for t in range(6):
            expected = -kl_coef * (float(logprobs[b, t]) - float(reference[b, t])) if t in at else 0.0
            expected += float(scores[b]) if t == at[-1] else 0.0
            assert float(rewards[b, t]) == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(rewards.sum(1), scores - kl_coef * sequence_kl(logprobs, reference, MASK))
