"""The rules of the capability forecast, its recovery of a known law, the watch for turns, and the sums that are checked."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.scaling import arithmetic, capability
from modelyard.scaling.arithmetic import Problem
from modelyard.scaling.capability import Tried, buckets, counted, exact, forecast, mean_log_failure, trend, tried
from modelyard.stats.estimate import Estimate

COMPUTE = (1e10, 3e10, 1e11, 3e11)


def models(samples: int, problems: int = 60, seed: int | None = 0, computes: tuple[float, ...] = COMPUTE) -> list[Tried]:
    """Problems of rising difficulty d whose -log pass rate is d C^-0.2 (x 1e2)."""
    generator = np.random.default_rng(seed)
    made = []
    for compute in computes:
        rates = {f"p{i}": float(np.exp(-(0.2 + 3 * i / problems) * 1e2 * compute**-0.2)) for i in range(problems)}
        made.append(counted(compute, samples, {name: int(generator.binomial(samples, rate)) for name, rate in rates.items()}))
    return made


def test_buckets_drop_the_hardest_split_by_the_small_models_and_exclude_what_one_model_never_solved() -> None:
    small = [counted(1e9, 10, {"a": 9, "b": 5, "c": 0, "d": 4, "e": 1}), counted(1e10, 10, {"a": 10, "b": 7, "c": 9, "d": 6, "e": 1})]

    found = buckets(small, count=2, dropped=1)

    assert found[0].problems == ("a", "b")
    assert found[1].problems == ("d",)
    assert found[1].unsolved == ("c",)


def test_mean_log_failure_is_the_hand_worked_number_and_refuses_a_problem_never_solved() -> None:
    model = counted(1e9, 8, {"a": 8, "b": 2, "c": 0})
    assert mean_log_failure(model, ["a", "b"]) == pytest.approx(np.log(4) / 2)
    with pytest.raises(ValueError, match="c was never solved in 8 samples"):
        mean_log_failure(model, ["a", "c"])


def test_forecast_of_many_samples_finds_the_law_and_covers_the_larger_model() -> None:
    small = models(100_000)
    (large,) = models(100_000, seed=1, computes=(1e12,))
    split = buckets(small, 3, dropped=6)
    found = forecast(small, split, 1e12, seed=0)
    assert [one.bucket for one in found] == [0, 1, 2]
    for one in found:
        measured = mean_log_failure(large, one.problems)
        assert one.k == pytest.approx(0.2, abs=0.01)
        assert one.c < 0.05 * measured
        assert one.prediction == pytest.approx(measured, rel=0.02)
        assert one.low <= measured <= one.high
        assert one.pass_rate == pytest.approx(np.exp(-one.prediction))


def test_rates_without_samples_give_the_law_itself_and_leave_no_problem_out() -> None:
    nats = {f"p{i}": 1 + 9.0 * i / 40 for i in range(40)}
    small = [exact(compute, {name: 1e2 * one * compute**-0.2 for name, one in nats.items()}) for compute in COMPUTE]
    split = buckets(small, 4, dropped=0)

    found = forecast(small, split, 1e14, seed=0)

    assert [len(one.problems) for one in found] == [10] * 4
    for one in found:
        assert one.prediction == pytest.approx(np.mean([1e2 * nats[name] * 1e14**-0.2 for name in one.problems]), rel=1e-3)
        assert (one.low < one.prediction < one.high, one.objection) == (True, "")
    assert not any(bucket.unsolved for bucket in split)


def test_records_are_read_by_their_probabilities_where_every_one_says_it() -> None:
    words = [{"item": "a", "score": 0.0, "values": {"nats": 2.0}}, {"item": "b", "score": 1.0, "values": {"nats": 0.5}}]
    texts = [{"item": "a", "score": 1.0, "values": {"nats": 40.0, "tokens": 9.0}}]

    assert tried(words, 1e9) == exact(1e9, {"a": 2.0, "b": 0.5})
    assert tried([words[0], {**words[1], "values": {}}], 1e9) == counted(1e9, 1, {"a": 0, "b": 1})
    assert tried(texts, 1e9) == counted(1e9, 1, {"a": 1})


def test_forecast_of_a_bucket_that_is_nearly_saturated_has_an_interval() -> None:
    passed = ([1, 2, 1, 3, 2], [190, 60, 199, 120, 170], [199, 200, 200, 200, 199], [200, 200, 200, 200, 199])
    small = [counted(c, 200, {f"p{i}": n for i, n in enumerate(row)}) for c, row in zip((2e10, 3e10, 4e10, 5e10), passed, strict=True)]
    (found,) = forecast(small, buckets(small, 1, 0), 3e12, seed=0)
    assert 0 == found.low < found.prediction < found.high < 1


def test_answers_that_cannot_be_told_from_others_leave_a_floor() -> None:
    level = {compute: 0.5 + 1e2 * compute**-0.2 for compute in (*COMPUTE, 1e13)}
    *small, large = (counted(compute, 10**6, {f"p{i}": round(10**6 * np.exp(-one)) for i in range(6)}) for compute, one in level.items())
    (found,) = forecast(small, buckets(small, 1, 0), 1e13, seed=0)
    assert found.c == pytest.approx(0.5, abs=0.02)
    assert found.prediction == pytest.approx(mean_log_failure(large, found.problems), rel=0.01)


@pytest.mark.parametrize(
    ("easy", "hard", "objections"),
    [
        ((3.0, 2.6, 1.9, 0.9), (5.0, 4.8, 4.58, 4.4), ("falls faster with every model", "an easier bucket")),
        ((3.0, 2.0, 1.3, 0.9), (5.0, 5.1, 4.9, 5.0), ("", "does not clearly fall")),
        ((3.0, 2.0, 1.3, 0.9), (5.0, 4.0, 3.2, 2.6), ("", "")),
    ],
)
def test_no_law_is_claimed_for_what_steepens_for_what_is_harder_than_that_and_for_what_does_not_fall_yet(
    easy: tuple[float, ...], hard: tuple[float, ...], objections: tuple[str, str]
) -> None:
    tries = 10**6
    passed = [{f"{level}-{i}": round(tries * np.exp(-level)) for level in pair for i in range(6)} for pair in zip(easy, hard, strict=True)]
    small = [
        counted(compute, tries, {f"{place}": count for place, count in enumerate(one.values())})
        for compute, one in zip(COMPUTE, passed, strict=True)
    ]
    found = forecast(small, buckets(small, 2, 0), 1e13, seed=0)
    for one, objection in zip(found, objections, strict=True):
        assert one.objection.startswith(objection)
        assert bool(one.objection) == bool(objection)


def test_forecast_leaves_out_buckets_that_are_too_small_or_saturated() -> None:
    small = [counted(c, 10, {**{f"e{i}": 10 for i in range(6)}, **{f"h{i}": 1 if i < 2 else 0 for i in range(6)}}) for c in COMPUTE]
    assert forecast(small, buckets(small, 2, 0), 1e12, seed=0) == []


@pytest.mark.parametrize(
    ("small", "at", "message"),
    [(models(50)[:2], 1e12, "at least 3 models"), (models(50), 3e11, "not beyond the largest model")],
)
def test_forecast_that_would_mean_nothing_is_refused(small: list[Tried], at: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        forecast(small, buckets(models(50), 3, 0), at, seed=0)


def test_buckets_of_models_that_tried_other_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="different problems"):
        buckets([counted(1e9, 5, {"a": 1}), counted(1e9, 5, {"b": 1})], 1, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.2, 0.3, 0.5, 0.7), "rises"),
        ((0.7, 0.6, 0.4, 0.3), "falls"),
        ((0.5, 0.51, 0.49, 0.5), "flat"),
        ((0.6, 0.4, 0.3, 0.8), "turns up"),
        ((0.3, 0.6, 0.6, 0.2), "turns down"),
    ],
)
def test_trend_names_what_the_score_does(values: tuple[float, ...], expected: str) -> None:
    scores = [(10.0**k, Estimate(v, v - 0.04, v + 0.04, 500)) for k, v in enumerate(values)]
    assert trend(list(reversed(scores))) == expected


def test_trend_within_the_noise_is_no_turn() -> None:
    assert trend([(10.0**k, Estimate(v, v - 0.2, v + 0.2, 20)) for k, v in enumerate((0.6, 0.5, 0.45, 0.7))]) == "flat"


@pytest.mark.parametrize(
    ("output", "passed"),
    [("55;", True), ("55;4+4=", True), ("055;", True), ("55", False), ("54;", False), (";", False), ("5+50;", False), ("5?;", False)],
)
def test_sum_passes_only_when_it_ends_and_is_right(output: str, passed: bool) -> None:
    assert arithmetic.passes(output, Problem(47, 8)) is passed


def test_every_solution_passes_its_grade_is_what_it_says_and_no_benchmark_problem_is_trained_on() -> None:
    chosen = arithmetic.benchmark(12, seed=0)
    assert all(arithmetic.passes(problem.solution, problem) for _, problem in chosen)
    assert len({problem.name for _, problem in chosen}) == 72
    for grade, problem in chosen:
        carries = problem.left % 10 + problem.right % 10 > 9
        assert carries == ("carry" in arithmetic.GRADES[grade]) or grade in (0, 5)
        shape = "+".join("d" * len(str(part)) for part in problem)
        assert arithmetic.GRADES[grade].startswith(shape)
        assert len(problem.solution) <= arithmetic.LONGEST
    trained = ";" + arithmetic.decode(arithmetic.training_rows(2000, 64, seed=0).reshape(-1).tolist())
    assert ";12+5=17;" in trained
    assert all(f";{problem.prompt}" not in trained for _, problem in chosen)


def test_forecast_interval_covers_a_larger_model_with_few_samples() -> None:
    covered = total = 0
    for seed in range(12):
        small = models(100, seed=seed)
        (large,) = models(4000, seed=100 + seed, computes=(1e12,))
        for one in capability.forecast(small, buckets(small, 3, dropped=12), 1e12, seed):
            measured = mean_log_failure(large, one.problems)
            covered += one.low <= measured <= one.high
            total += 1
    assert total >= 24
    assert covered >= 0.85 * total
