from __future__ import annotations

import numpy as np
import pytest

from modelyard.scaling.forecast import Point, PowerLaw, fit, forecast

LAW = PowerLaw(a=80.0, b=-0.12, c=1.7)
COMPUTE = (1e10, 4e10, 1e11, 5e11, 1e12)


def test_fit_on_exact_points_finds_the_law() -> None:
    found = fit([Point(c, LAW(c)) for c in COMPUTE])
    assert found.b == pytest.approx(LAW.b, abs=1e-4)
    assert found(1e15) == pytest.approx(LAW(1e15), rel=1e-4)


def test_forecast_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator, covered = np.random.default_rng(0), 0
    for trial in range(60):
        points = [Point(c, LAW(c) * (1 + generator.normal(0, 0.004))) for c in COMPUTE]
        result = forecast(points, 2e13, seed=trial, noise_floor=0.004, resamples=100)
        covered += result.low <= LAW(2e13) * (1 + generator.normal(0, 0.004)) <= result.high
    assert covered >= 50


def test_forecast_with_three_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 runs"):
        forecast([Point(c, LAW(c)) for c in COMPUTE[:3]], 1e14, 0, 0.01)


def test_forecast_of_a_compute_already_run_is_refused() -> None:
    with pytest.raises(ValueError, match="not beyond the largest fitted run"):
        forecast([Point(c, LAW(c)) for c in COMPUTE], 1e12, 0, 0.01)


def test_fit_of_a_diverged_run_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        fit([Point(1e10, 5.0), Point(1e11, float("nan")), Point(1e12, 4.0)])
