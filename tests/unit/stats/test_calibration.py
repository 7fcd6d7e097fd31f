"""Calibration against a loop."""

import numpy as np
import pytest

from modelyard.stats.calibration import calibration, expected_calibration_error, reliability


def slow_ece(p: list[float], hit: list[bool], bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = [(c, h) for c, h in zip(p, hit, strict=True) if b / bins < c <= (b + 1) / bins or (b == 0 and c == 0)]
        if inside:
            total += len(inside) / len(p) * abs(sum(h for _, h in inside) / len(inside) - sum(c for c, _ in inside) / len(inside))
    return total


def test_ece_equals_a_loop() -> None:
    generator = np.random.default_rng(0)
    p = generator.random(300).tolist()
    hit = (generator.random(300) < 0.4).tolist()

    assert expected_calibration_error(reliability(p, hit, 8)) == pytest.approx(slow_ece(p, hit, 8))


def test_ece_perfect_confidence_is_zero_and_overconfidence_is_its_gap() -> None:
    assert expected_calibration_error(reliability([1.0] * 4, [True] * 4)) == 0.0
    assert expected_calibration_error(reliability([0.9] * 10, [True] * 5 + [False] * 5)) == pytest.approx(0.4)


def test_calibration_interval_holds_the_value_and_bins_hold_everything() -> None:
    estimate, bins = calibration([0.2, 0.8, 0.8, 0.7] * 20, [False, True, False, True] * 20, seed=0)

    assert estimate.low <= estimate.value <= estimate.high
    assert sum(b.n for b in bins) == estimate.n == 80


@pytest.mark.parametrize(("p", "hit"), [([], []), ([1.2], [True]), ([float("nan")], [True]), ([0.5], [])])
def test_reliability_bad_input_is_refused(p: list[float], hit: list[bool]) -> None:
    with pytest.raises(ValueError, match="calibration needs"):
        reliability(p, hit)
