"""What is measured of a reward model: every comparison counts once, by margin, calibrated, beside how often people agree."""

import math
from itertools import combinations

import numpy as np
import pytest

from modelyard.formats.feedback import Comparison
from modelyard.posttrain.comparisons import accuracy, accuracy_by_margin, human_ceiling, judged, logistic, win_calibration


def comparison(ranks: tuple[int, ...], scores: tuple[float, ...] | None = None, agreement: float | None = None) -> Comparison:
    texts = tuple(f"text {i}" for i in range(len(ranks)))
    return Comparison(id="c", split="test", source="s", prompt="", completions=texts, ranks=ranks, scores=scores, agreement=agreement)


def test_judged_pairs_leave_ties_out_and_take_p_win_from_the_score_difference() -> None:
    given = [0.5, 2.0, -1.0, 2.0]
    pairs = judged([comparison((1, 2, 2, 3), (3.0, 1.0, 1.5, -1.0))], [given], "fp32")
    expected = [(i, j) for i, j in combinations(range(4), 2) if (i, j) != (1, 2)]
    assert [p.win for p in pairs] == pytest.approx([1 / (1 + math.exp(given[j] - given[i])) for i, j in expected])
    assert [p.margin for p in pairs] == [2.0, 1.5, 4.0, 2.0, 2.5]
    assert [p.correct for p in pairs] == [0.0, 1.0, 0.0, 0.5, 0.0]
    assert logistic(-800.0) == 0.0 < 1.0 == logistic(800.0)


def test_accuracy_counts_a_comparison_once_however_many_pairs_it_has() -> None:
    nine, two = comparison(tuple(range(1, 10))), comparison((1, 2))
    pairs = judged([nine, two], [[9.0 - i for i in range(9)], [0.0, 1.0]], "fp32")
    assert len(pairs) == 37
    assert accuracy(pairs, 0).value == 0.5


def test_accuracy_by_margin_the_right_order_is_found_where_people_agree_most() -> None:
    generator = np.random.default_rng(0)
    tests, scores = [], []
    for _ in range(600):
        means = generator.normal(0, 1.5, 2)
        drawn = generator.normal(means, 1.2)
        first = bool(drawn[0] > drawn[1])
        tests.append(comparison((1, 2) if first else (2, 1), tuple(means)))
        scores.append(means.tolist())
    bins = accuracy_by_margin(judged(tests, scores, "fp32"), (0.0, 0.5, 1.5), 0)
    assert list(bins) == ["0-0.5", "0.5-1.5", "1.5-inf"]
    assert sum(b.n for b in bins.values()) == 600
    assert bins["0-0.5"].value < bins["0.5-1.5"].value < bins["1.5-inf"].value


def test_win_calibration_true_odds_are_calibrated_and_doubled_ones_are_not() -> None:
    generator = np.random.default_rng(1)
    differences = generator.normal(0, 1.5, 4000)
    won = generator.random(4000) < 1 / (1 + np.exp(-differences))
    tests = [comparison((1, 2) if first else (2, 1)) for first in won]
    error, bins = win_calibration(judged(tests, [[d, 0.0] for d in differences], "fp32"), 0)
    sure, _ = win_calibration(judged(tests, [[3 * d, 0.0] for d in differences], "fp32"), 0)
    assert error.value < 0.03 < 0.1 < sure.value
    assert sum(b.n for b in bins) == 4000
    assert all(b.n == 0 for b in bins[:5])


def test_human_ceiling_is_the_mean_agreement_of_what_was_rated_twice() -> None:
    assert human_ceiling([comparison((1, 2))], 0) is None
    ceiling = human_ceiling([comparison((1, 2), agreement=a) for a in (1.0, 0.5)] + [comparison((2, 1))], 0)
    assert ceiling is not None
    assert (ceiling.value, ceiling.n) == (0.75, 2)
