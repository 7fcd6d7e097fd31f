"""The adaptive KL coefficient against Ziegler et al.'s formula, worked by hand."""

import pytest
from pydantic import ValidationError

from modelyard.posttrain.policy.kl_control import AdaptiveKLConfig, coefficient

CONTROL = AdaptiveKLConfig(target=2.0, gain=0.1)


def test_coefficient_without_controller_is_fixed() -> None:
    assert coefficient(0.02, None, [0.0, 50.0]) == 0.02


def test_coefficient_hand_worked() -> None:
    """Target 2, K 0.1: KL 2.2 is an error of 0.1; 8 is clipped to 0.2; 0 to -0.2."""
    assert coefficient(0.5, CONTROL, []) == 0.5
    assert coefficient(0.5, CONTROL, [2.2]) == pytest.approx(0.5 * 1.01)
    assert coefficient(0.5, CONTROL, [2.2, 8.0]) == pytest.approx(0.5 * 1.01 * 1.02)
    assert coefficient(0.5, CONTROL, [2.2, 8.0, 0.0]) == pytest.approx(0.5 * 1.01 * 1.02 * 0.98)


def test_coefficient_kl_that_answers_to_the_charge_settles_at_the_target() -> None:
    """A policy whose KL is 1 / coefficient ends where the coefficient is 1 / target."""
    measured: list[float] = []
    for _ in range(400):
        measured.append(1 / coefficient(0.05, CONTROL, measured))
    assert measured[0] == 20.0
    assert measured[-1] == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(("target", "gain"), [(0.0, 0.1), (-1.0, 0.1), (1.0, 0.0), (1.0, 5.0)])
def test_adaptive_kl_impossible_values_are_refused(target: float, gain: float) -> None:
    with pytest.raises(ValidationError, match=r"target must be positive and gain lie in \(0, 5\)"):
        AdaptiveKLConfig(target=target, gain=gain)
