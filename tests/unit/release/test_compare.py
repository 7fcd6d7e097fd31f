"""Paired tests against slow references."""

import math

import numpy as np
import pytest

from modelyard.release.compare import compare
from modelyard.stats.paired import holm, mcnemar, paired_bootstrap


def records(scores: list[float], benchmark_id: str = "x", benchmark: str = "words") -> list[dict]:
    return [{"item": f"i{k}", "score": s, "benchmark_id": benchmark_id, "benchmark": benchmark} for k, s in enumerate(scores)]


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (3, 3), (2, 9), (15, 4)])
def test_mcnemar_equals_the_binomial_sum(gained: int, lost: int) -> None:
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n

    assert mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail) if gained != lost else 1.0)


def test_holm_hand_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_compare_pairing_shows_what_an_unpaired_look_hides() -> None:
    old = [1.0] * 100 + [0.0] * 100
    new = [1.0] * 90 + [0.0] * 110  # ten items lost, none gained: 50% against 45% of 200

    (result,) = compare({"words": records(old)}, {"words": records(new)})

    assert result.verdict == "worse"
    assert result.p == pytest.approx(2 / 2**10)
    assert result.lost == tuple(sorted(f"i{k}" for k in range(90, 100)))


def test_compare_loss_within_tolerance_is_same() -> None:
    old, new = [1.0] * 100 + [0.0] * 100, [1.0] * 90 + [0.0] * 110

    (result,) = compare({"words": records(old)}, {"words": records(new)}, tolerance={"words": 0.06})

    assert result.verdict == "same"


def test_compare_continuous_scores_use_the_bootstrap() -> None:
    generator = np.random.default_rng(1)
    old = generator.normal(size=300)

    (up,) = compare({"words": records(old.tolist())}, {"words": records((old + 0.05 + 0.1 * generator.normal(size=300)).tolist())})
    (none,) = compare({"words": records(old.tolist())}, {"words": records(old.tolist())})

    assert up.test == "bootstrap"
    assert up.verdict == "better"
    assert up.low < up.difference < up.high
    assert (none.verdict, none.p) == ("same", 1.0)


def test_paired_bootstrap_interval_is_that_of_the_normal_theory() -> None:
    differences = np.random.default_rng(0).normal(0.2, 1.0, 2000)

    low, high, p = paired_bootstrap(differences, seed=3)

    half = 1.96 * differences.std() / math.sqrt(2000)
    assert (low, high) == pytest.approx((differences.mean() - half, differences.mean() + half), abs=0.01)
    assert p < 0.001


def test_compare_few_items_is_not_enough() -> None:
    (result,) = compare({"words": records([1.0] * 10)}, {"words": records([0.0] * 10)})

    assert result.verdict == "not enough items"


def test_compare_holm_makes_many_benchmarks_stricter() -> None:
    old = {f"b{k}": records([0.0] * 50) for k in range(10)}
    new = {name: records([1.0] * 6 + [0.0] * 44) if name == "b0" else rows for name, rows in old.items()}

    first = compare(old, new)[0]

    assert first.p == pytest.approx(2 / 2**6)
    assert (first.p_holm, first.verdict) == (pytest.approx(10 * 2 / 2**6), "same")


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (records([1.0] * 40, "y"), "another benchmark id"),
        (records([1.0] * 39), "items differ"),
        (records([float("nan")] * 40), "record 1: score is nan"),
        ([{"item": "a", "benchmark_id": "x"}], "numeric score"),
    ],
)
def test_compare_incomparable_records_are_refused(new: list[dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare({"words": records([1.0] * 40)}, {"words": new})


def test_compare_detectable_difference_is_seen_four_times_in_five() -> None:
    generator = np.random.default_rng(0)
    n = 400
    old = generator.normal(size=n)
    (first,) = compare({"words": records(old.tolist())}, {"words": records((old + generator.normal(size=n)).tolist())})

    seen = 0
    for _ in range(60):
        new = old + first.detectable + generator.normal(size=n)
        (found,) = compare({"words": records(old.tolist())}, {"words": records(new.tolist())})
        seen += found.verdict == "better"

    assert 60 * 0.62 < seen < 60 * 0.95  # 80% within three standard errors


def test_compare_many_benchmarks_of_continuous_scores_can_still_be_worse() -> None:
    generator = np.random.default_rng(0)
    olds = {f"s{k}": generator.uniform(0.5, 1, 100) for k in range(57)}
    found = compare(
        {k: records(v) for k, v in olds.items()}, {k: records(v - 0.45 + generator.normal(0, 0.01, 100)) for k, v in olds.items()}
    )
    assert {comparison.verdict for comparison in found} == {"worse"}


def test_compare_detectable_difference_is_not_known_without_spread_and_grows_with_the_benchmarks() -> None:
    alike = {"flat": records([0.3] * 40)}
    (flat,) = compare(alike, alike)
    assert flat.detectable is None
    one, many = ({f"b{k}": records([1.0, 0.0] * 40) for k in range(n)} for n in (1, 20))
    other = {name: records([0.0, 1.0] * 40) for name in many}
    assert compare(one, {"b0": other["b0"]})[0].detectable < compare(many, other)[0].detectable
