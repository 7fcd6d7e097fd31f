"""The joint law on exact and noisy runs, its interval, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.scaling.chinchilla import JointLaw, Run, _log_loss, fit_joint

LAW = JointLaw(E=1.7, A=400.0, B=410.0, alpha=0.34, beta=0.28)
GRID = [(n, n * ratio) for n in (2e8, 4e8, 8e8) for ratio in (10.0, 20.0, 40.0, 100.0)]


def test_fit_joint_on_exact_runs_finds_the_published_law() -> None:
    fit = fit_joint([Run(n, d, LAW(n, d)) for n, d in GRID], seed=0, noise_floor=1e-4)
    assert fit.law.alpha == pytest.approx(LAW.alpha, rel=0.02)
    assert fit.law.beta == pytest.approx(LAW.beta, rel=0.02)
    assert fit.law(7e10, 1.4e12) == pytest.approx(LAW(7e10, 1.4e12), rel=2e-3)


def test_fit_joint_one_diverged_run_hardly_moves_the_prediction_and_widens_the_interval() -> None:
    clean = [Run(n, d, LAW(n, d)) for n, d in GRID]
    fit = fit_joint([*clean[:5], clean[5]._replace(loss=clean[5].loss * 1.2), *clean[6:]], seed=0, noise_floor=1e-3)
    there = fit.predict(2e9, 4e10)
    assert there.prediction == pytest.approx(LAW(2e9, 4e10), rel=5e-3)
    assert there.high - there.low > 0.1


def test_fit_joint_law_that_missed_its_largest_size_is_trusted_less_beyond_it_and_as_much_within() -> None:
    def width(off: float, params: float) -> float:
        runs = [Run(n, d, LAW(n, d) * (1 + off * (n == 1.6e9))) for n, d in [*GRID, (1.6e9, 1.6e10), (1.6e9, 6.4e10)]]
        there = fit_joint(runs, seed=0, noise_floor=1e-4).predict(params, 20 * params)
        return (there.high - there.low) / there.prediction

    assert width(0.01, 6.4e9) > 3 * width(0.01, 4e8)
    assert width(0.01, 6.4e9) > 0.04 > 10 * width(0.0, 6.4e9), "two steps of a per cent each way, at twice its size for 95 in 100"


def test_log_loss_gradient_equals_finite_differences() -> None:
    logs = np.random.default_rng(0).normal(size=(7, 2))
    at = np.array([-1.2, -0.8, 0.5, -1.0, -1.5])
    gradient = _log_loss(at, logs)[1]
    for k in range(5):
        step = np.eye(5)[k] * 1e-6
        numeric = (_log_loss(at + step, logs)[0] - _log_loss(at - step, logs)[0]) / 2e-6
        np.testing.assert_allclose(gradient[:, k], numeric, atol=1e-8)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([Run(n, d, LAW(n, d)) for n, d in GRID[:5]], "at least 6 runs, got 5"),
        ([Run(n, d, 3.0) for n, d in GRID if n < 8e8], "at least three sizes"),
        ([Run(n, 20 * n, LAW(n, 20 * n)) for n in (1e8, 2e8, 3e8, 4e8, 5e8, 6e8)], "one token horizon"),
        ([Run(n, d, float("nan")) for n, d in GRID], "finite and positive"),
    ],
)
def test_fit_joint_that_would_mean_nothing_is_refused(runs: list[Run], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_joint(runs, 0, 1e-3)
