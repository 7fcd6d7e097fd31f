"""Weights of rules: they overrule where they must, no more than they must, and solve the programme that the docstring states."""

import numpy as np
import pytest

from modelyard.posttrain.judged.overruling import fit_weights, ruling


def objective(weights: np.ndarray, rules: np.ndarray, model: np.ndarray, margin: float, penalty: float) -> float:
    return float(np.maximum(0, margin - (model + rules @ weights)).mean() + penalty * weights.sum())


def test_weight_hand_worked_overrules_by_the_margin() -> None:
    # two pairs, one rule that prefers the better response by 2 in both; the reward model is for it by 1 and against it by 3
    rules, model = np.array([[2.0], [2.0]]), np.array([1.0, -3.0])

    weights = fit_weights(rules, model, margin=1.0, penalty=1e-3)

    assert weights == pytest.approx([2.0])  # 2 w - 3 = 1
    assert ruling(rules, model, weights)._asdict() == {"pairs": 2, "model_right": 0.5, "right": 1.0, "conflicts": 1, "overruled": 1}
    assert ruling(rules, model, np.zeros(1)).overruled == 0


def test_weight_of_a_rule_that_is_wrong_or_idle_is_zero() -> None:
    model = np.array([1.0, 2.0, -0.5])
    rules = np.array([[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]])

    weights = fit_weights(rules, model, margin=0.5, penalty=1e-3)

    assert weights == pytest.approx([0.0, 0.0, 1.0])


def test_weights_no_grid_point_is_better() -> None:
    generator = np.random.default_rng(3)
    rules, model = generator.uniform(-0.5, 1.0, (40, 2)), generator.normal(0, 1, 40)
    grid = [np.array([a, b]) for a in np.linspace(0, 6, 61) for b in np.linspace(0, 6, 61)]
    for penalty in (0.01, 0.3):
        weights = fit_weights(rules, model, margin=0.7, penalty=penalty)
        best = min(objective(point, rules, model, 0.7, penalty) for point in grid)
        assert objective(weights, rules, model, 0.7, penalty) <= best + 1e-9


def test_weights_of_no_pairs_or_of_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="no labelled pairs"):
        fit_weights(np.zeros((0, 1)), np.zeros(0), 1.0, 0.1)
    with pytest.raises(ValueError, match="not finite"):
        fit_weights(np.ones((1, 1)), np.array([np.nan]), 1.0, 0.1)
