"""The law, its interval's coverage, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.scaling.power_law import Point, PowerLaw, backtest, fit, forecast
from modelyard.scaling.slopes import STEEP, steepening

LAW = PowerLaw(a=80.0, b=-0.12, c=1.7)
COMPUTE = (1e10, 4e10, 1e11, 5e11, 1e12)
EXACT = [Point(c, LAW(c)) for c in COMPUTE]


@pytest.mark.parametrize("law", [LAW, PowerLaw(4.0, -0.3, 2.0), PowerLaw(34.0, -0.056, 0.67), PowerLaw(9.0, -0.05, 0.0)])
def test_fit_on_exact_points_finds_the_law(law: PowerLaw) -> None:
    found = fit([Point(c, law(c)) for c in COMPUTE])
    assert found.b == pytest.approx(law.b, rel=1e-3)
    assert found.c == pytest.approx(law.c, abs=2e-3)
    assert found(1e15) == pytest.approx(law(1e15), rel=1e-4)


def test_fit_is_the_least_relative_squares_solution_of_a_general_minimiser() -> None:
    from scipy.optimize import least_squares

    generator = np.random.default_rng(1)
    points = [Point(c, LAW(c) * (1 + generator.normal(0, 0.003))) for c in COMPUTE]

    def residuals(x: np.ndarray) -> list[float]:
        return [(np.exp(x[0]) * (p.compute / 1e11) ** x[1] + x[2]) / p.loss - 1 for p in points]

    reference = least_squares(residuals, [0.0, -0.1, 1.0], bounds=([-20, -2, 0], [20, -0.01, 10]), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    found = fit(points)
    assert sum((found(p.compute) / p.loss - 1) ** 2 for p in points) <= 2 * reference.cost * (1 + 1e-6)
    assert found(1e14) == pytest.approx(np.exp(reference.x[0]) * 1e3 ** reference.x[1] + reference.x[2], rel=1e-4)


def test_forecast_interval_covers_a_new_run_as_often_as_it_says_with_four_runs() -> None:
    """Noise below, at and above the stated floor. Four runs cannot tell a noise far above the floor, so less is asked there."""
    generator = np.random.default_rng(0)
    for noise, least in ((0.0005, 29), (0.0015, 27), (0.004, 25)):
        covered = 0
        for trial in range(30):
            points = [Point(c, LAW(c) * (1 + generator.normal(0, noise))) for c in COMPUTE[:4]]
            result = forecast(points, 1e13, seed=trial, noise_floor=0.0015)
            covered += result.low <= LAW(1e13) * (1 + generator.normal(0, noise)) <= result.high
        assert covered >= least, (noise, covered)


def test_forecast_interval_widens_with_the_distance_and_with_the_noise_floor() -> None:
    def width(at: float, floor: float) -> float:
        made = forecast(EXACT, at, 0, floor)
        return made.high - made.low

    assert width(1e13, 0.001) < width(1e14, 0.001) < width(1e14, 0.004)


def test_interval_reaches_down_to_slopes_that_steepen_as_far_as_the_runs_cannot_tell() -> None:
    """Four runs within a factor of five, 107 times: what is covered of slopes that change at random, and of runs on the law."""
    generator = np.random.default_rng(0)
    close = 4e11 / np.array([5.0, 3.0, 1.7, 1.0])

    def covered(change: float, bend: float) -> int:
        def measured(compute: float) -> float:
            grown = np.log(compute / close[0])
            return float(10 * np.exp(-0.05 * (grown + change * grown**2 / 2)) * (1 + generator.normal(0, 0.003)))

        made = forecast([Point(c, measured(c)) for c in close], 107 * close[-1], 0, 0.005, bend=bend)
        return made.low <= measured(made.at_compute) <= made.high

    changes = np.abs(generator.normal(0, 0.25, 40))
    assert sum(covered(change, 0.0) for change in changes) <= 28
    assert sum(covered(change, 0.25) for change in changes) >= 37
    assert all(covered(0.0, 0.25) for _ in range(10))


def test_runs_whose_slope_is_even_over_a_wide_range_leave_the_interval_as_the_law_has_it() -> None:
    wide = [Point(c, 9 * c**-0.05) for c in np.geomspace(1e9, 1e14, 12)]
    alone, bent = (forecast(wide, 1e15, 0, 0.0015, bend=bend) for bend in (0.0, 0.2))
    assert bent.prediction == alone.prediction
    assert alone.low * 0.995 < bent.low <= alone.low
    narrow = [Point(c, 9 * c**-0.05) for c in np.geomspace(1e13, 1e14, 12)]
    assert forecast(narrow, 1e16, 0, 0.0015, bend=0.2).low < 0.99 * forecast(narrow, 1e16, 0, 0.0015, bend=0.0).low


def test_forecast_of_runs_that_steepen_is_objected_to_and_of_runs_on_the_law_rarely() -> None:
    steep = [Point(1e10 * 3**i, float(np.exp(1.5 - 0.05 * i - 0.01 * i**2))) for i in range(5)]
    assert "fall faster" in forecast(steep, 1e13, 0, 0.0015).objection
    generator = np.random.default_rng(0)
    pure = PowerLaw(9.0, -0.05, 0.0)  # a straight line: whatever bends is noise
    objections = 0
    for _ in range(300):
        points = [Point(c, pure(c) * (1 + generator.normal(0, 0.0015))) for c in COMPUTE]
        objections += steepening(points, 0.0015) < STEEP
    assert objections <= 6


def test_forecast_is_a_function_of_its_seed() -> None:
    assert forecast(EXACT, 1e13, 3, 0.002) == forecast(list(reversed(EXACT)), 1e13, 3, 0.002)
    assert forecast(EXACT, 1e13, 3, 0.002).low != forecast(EXACT, 1e13, 4, 0.002).low


def test_backtest_leaves_every_seed_of_the_largest_run_out() -> None:
    test = backtest([*EXACT, Point(1e13, 9.0), Point(1e13, 11.0)])
    assert test is not None
    assert test.predicted == pytest.approx(LAW(1e13), rel=1e-4)
    assert test.measured == 10.0
    assert test.error == pytest.approx(LAW(1e13) / 10 - 1, rel=1e-3)


def test_forecast_with_three_runs_is_refused_unless_asked_for() -> None:
    with pytest.raises(ValueError, match="at least 4 runs of different compute, got 3"):
        forecast(EXACT[:3], 1e14, 0, 0.01)
    assert forecast(EXACT[:3], 1e14, 0, 0.01, least=3).backtest is None


@pytest.mark.parametrize(
    ("points", "at", "message"),
    [
        (EXACT, 1e12, "not beyond the largest fitted run"),
        (EXACT, float("nan"), "not beyond the largest fitted run"),
        ([Point(1e10, 5.0), Point(1e11, float("nan")), Point(1e12, 4.0), Point(1e13, 3.9)], 1e14, "finite"),
        ([Point(c, 3.0 + 0.01 * k) for k, c in enumerate(COMPUTE)], 1e14, "does not fall with compute"),
    ],
)
def test_forecast_that_would_mean_nothing_is_refused(points: list[Point], at: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        forecast(points, at, 0, 0.01)
