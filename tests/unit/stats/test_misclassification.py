"""Shares corrected by a judge's measured error: planted errors, and as many intervals that hold the truth as are promised."""

import numpy as np
import pytest

from modelyard.stats.estimate import Estimate, proportion
from modelyard.stats.misclassification import JudgeError, corrected, largest_rise, youden

DRAWS = 600


def seen_of(true: int, of: int, sensitivity: float, alarms: float, dice: np.random.Generator) -> Estimate:
    """What a judge with these errors sees of ``true`` positives among ``of``."""
    return proportion(int(dice.binomial(true, sensitivity) + dice.binomial(of - true, alarms)), of)


def measured(sensitivity: float, alarms: float, labels: int, dice: np.random.Generator) -> JudgeError:
    hits, alarmed = int(dice.binomial(labels, sensitivity)), int(dice.binomial(labels, alarms))
    return JudgeError(hits=hits, positives=labels, false_alarms=alarmed, negatives=labels)


@pytest.mark.parametrize(
    ("share", "sensitivity", "alarms", "items", "labels"),
    [(0.1, 0.9, 0.05, 100, 40), (0.3, 0.8, 0.2, 200, 40), (0.0, 0.9, 0.1, 60, 20), (0.05, 0.95, 0.05, 60, 12), (0.5, 0.7, 0.02, 100, 30)],
)
def test_corrected_intervals_hold_the_true_share_where_the_shares_own_intervals_do_not(
    share: float, sensitivity: float, alarms: float, items: int, labels: int
) -> None:
    dice, held, naive = np.random.default_rng(7), 0, 0
    for _ in range(DRAWS):
        seen = seen_of(int(dice.binomial(items, share)), items, sensitivity, alarms, dice)
        found = corrected(seen, measured(sensitivity, alarms, labels, dice))
        assert found.low <= found.value <= found.high
        held += found.low <= share <= found.high
        naive += seen.low <= share <= seen.high
    assert held >= 0.93 * DRAWS, "0.95 of 600 with two standard errors"
    assert naive < 0.85 * DRAWS


def test_correction_undoes_known_errors_and_leaves_what_an_errorless_judge_sees() -> None:
    many = JudgeError(hits=800_000, positives=1_000_000, false_alarms=100_000, negatives=1_000_000)
    found = corrected(Estimate(0.31, 0.3, 0.32, 10_000), many)
    assert found.value == pytest.approx((0.31 - 0.1) / 0.7)
    seen = proportion(20, 100)
    same = corrected(seen, JudgeError(hits=10**9, positives=10**9, false_alarms=0, negatives=10**9))
    assert (same.value, same.low, same.high) == pytest.approx((seen.value, seen.low, seen.high), abs=0.01)
    few = corrected(seen, JudgeError(hits=10, positives=10, false_alarms=0, negatives=10))
    assert few.high - few.low > 1.2 * (seen.high - seen.low), "ten labels leave doubt in the judge"
    assert corrected(proportion(0, 50), JudgeError(hits=19, positives=20, false_alarms=1, negatives=20)).value == 0


def test_bound_on_a_rise_holds_what_rose_as_often_as_promised_and_no_rise_stays_none() -> None:
    dice, held = np.random.default_rng(3), 0
    for _ in range(DRAWS):  # so many items that only the judge's error is left
        before, after = (seen_of(true, 10**6, 0.7, 0.1, dice) for true in (10**5, 2 * 10**5))
        held += largest_rise(after.value - before.value, measured(0.7, 0.1, 40, dice)) >= 0.0999
    assert held >= 0.955 * DRAWS, "0.975 of 600 with two standard errors"
    assert largest_rise(0.0, JudgeError(hits=9, positives=10, false_alarms=1, negatives=10)) == 0
    assert largest_rise(-0.1, JudgeError(hits=9, positives=10, false_alarms=1, negatives=10)) <= -0.1


@pytest.mark.parametrize(("hits", "false_alarms", "labels"), [(5, 5, 10), (2, 8, 10), (1, 0, 1), (12, 8, 20)])
def test_judge_that_labels_do_not_show_to_be_better_than_chance_corrects_nothing(hits: int, false_alarms: int, labels: int) -> None:
    error = JudgeError(hits=hits, positives=labels, false_alarms=false_alarms, negatives=labels)
    assert youden(error).low <= 0
    assert corrected(proportion(5, 50), error) is None
    assert largest_rise(0.1, error) is None


def test_youdens_interval_is_newcombes() -> None:
    """Newcombe 1998, table II, example (a): 56 of 70 and 48 of 80, method 10."""
    found = youden(JudgeError(hits=56, positives=70, false_alarms=48, negatives=80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_counts_that_cannot_be_are_refused() -> None:
    for counts in ((3, 2, 0, 1), (0, 1, 2, 1), (0, 0, 0, 1)):
        with pytest.raises(ValueError, match=r"cannot find more|greater than or equal to 1"):
            JudgeError(hits=counts[0], positives=counts[1], false_alarms=counts[2], negatives=counts[3])
