"""Metrics of records against hand-worked and independent values."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark
from modelyard.evals.item import Item
from modelyard.evals.metrics import pass_at_k
from modelyard.evals.summary import by_group, in_parts, summarise
from modelyard.formats.records import Record
from modelyard.stats.estimate import Estimate, proportion
from modelyard.stats.ranking import average_precision


def record(item: str, score: float = 0.0, **more: Any) -> Record:
    shared = {
        "benchmark": "b",
        "benchmark_id": "0",
        "model": "m",
        "weights": "w",
        "prompt_sha256": "",
        "prompt": "",
        "output": "",
        "parsed": "",
    }
    return Record.model_validate({**shared, "item": item, "score": score, "logprobs": (), "contaminated": False, **more})


def benchmark(*metrics: str) -> Benchmark:
    item = Item(id="a", fields={}, target="")
    return Benchmark(name="b", items=(item,), prompt="", decoding=NOTHING_DRAWN, parser="whole", scorer="exact", metrics=metrics)


def test_mean_has_the_standard_error_of_a_proportion_and_an_interval_around_it() -> None:
    records = [record(str(i), values={"acc": float(i % 4 == 0)}) for i in range(400)]

    found = summarise(benchmark("acc"), records)["acc"]

    assert (found.value, found.n) == (0.25, 400)
    assert found.stderr == pytest.approx(math.sqrt(0.25 * 0.75 / 400), rel=0.1)
    assert found.low == pytest.approx(0.25 - 1.96 * found.stderr, abs=0.01)
    assert found.high == pytest.approx(0.25 + 1.96 * found.stderr, abs=0.01)


def test_samples_of_an_item_are_one_item() -> None:
    records = [record(item, float(k < right), sample=k) for item, right in (("x", 1), ("y", 0)) for k in range(10)]

    found = summarise(benchmark("pass_at_1", "pass_at_10", "pass_at_100"), records)

    assert found["pass_at_1"].value == pytest.approx(0.05)
    assert found["pass_at_10"].value == 0.5
    assert found["pass_at_1"].n == 2
    assert "pass_at_100" not in found


def test_pass_at_k_equals_the_average_over_all_draws() -> None:
    from itertools import combinations

    draws = [any(i < 3 for i in chosen) for chosen in combinations(range(9), 4)]

    assert pass_at_k(9, 3, 4) == pytest.approx(sum(draws) / len(draws))


def test_perplexities_weigh_tokens_and_bytes_not_items() -> None:
    records = [record("x", values={"nats": 2.0, "tokens": 1, "bytes": 4}), record("y", values={"nats": 1.0, "tokens": 5, "bytes": 8})]

    found = summarise(benchmark("perplexity", "bits_per_byte", "word_perplexity"), records)

    assert found["perplexity"].value == pytest.approx(math.exp(0.5))
    assert found["bits_per_byte"].value == pytest.approx(0.25 / math.log(2))
    assert found["word_perplexity"].value == pytest.approx(math.exp(1.5))


def test_average_precision_equals_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    scores, positive = draw.integers(0, 20, 200) / 20, draw.random(200) < 0.3

    assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores))


def test_average_precision_of_records_ranks_by_the_first_choice() -> None:
    def one(item: str, share: float, harmful: bool) -> Record:
        choice = 0 if share > 0.5 else 1
        return record(
            item, values={"share_first": share, "acc": float((choice == 0) == harmful), "confidence": max(share, 1 - share)}, choice=choice
        )

    records = [one("a", 0.9, True), one("b", 0.8, False), one("c", 0.3, True), one("d", 0.1, False)]

    assert summarise(benchmark("average_precision"), records)["average_precision"].value == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_over_refusal_counts_safe_prompts_only() -> None:
    records = [
        record(
            str(i),
            group="safe" if i < 4 else "unsafe",
            target="answer" if i < 4 else "refusal",
            parsed="refusal" if i in (0, 4) else "answer",
        )
        for i in range(6)
    ]

    found = summarise(benchmark("over_refusal", "unsafe_answered", "refused"), records)

    assert (found["over_refusal"].value, found["over_refusal"].n) == (0.25, 4)
    assert (found["unsafe_answered"].value, found["unsafe_answered"].n) == (0.5, 2)
    assert (found["refused"].value, found["refused"].n) == (0.5, 2)
    assert by_group(records).keys() == {"safe", "unsafe"}


def test_one_item_has_no_error() -> None:
    found = summarise(benchmark("f1"), [record("x", values={"f1": 0.5})])["f1"]

    assert found.plain() == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 1, "stderr": None}
    assert Estimate.of(found.plain())[:4] == found[:4]


def test_metric_of_a_value_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="item x has no value 'f1'"):
        summarise(benchmark("f1"), [record("x")])


def test_parts_are_given_where_training_met_items() -> None:
    records = [record(str(i), score=float(i < 6), values={"acc": float(i < 6)}, contaminated=i < 4) for i in range(10)]

    found = in_parts(benchmark("acc"), records, 0)

    assert {key: (one.value, one.n) for key, one in found.items()} == {
        "acc": (0.6, 10),
        "acc_clean": (pytest.approx(2 / 6), 6),
        "acc_contaminated": (1.0, 4),
    }
    assert list(in_parts(benchmark("acc"), records[4:], 0)) == ["acc"]


def test_one_sample_shares_have_wilsons_interval() -> None:
    found = summarise(benchmark("acc"), [record(str(i), values={"acc": 0.0}) for i in range(40)])["acc"]

    assert found[:4] == proportion(0, 40)[:4]
    assert found.high > 0.05, "no hit in forty says little"
