"""A benchmark's id changes with everything a score depends on."""

import pytest

from modelyard.evals.benchmark import Benchmark, Decoding, Item

BASE = Benchmark(
    name="last_word",
    items=(Item(id="a", fields={"context": "the king of the"}, target="castle"),),
    prompt="{context}",
    decoding=Decoding(max_new_tokens=6, temperature=0.0, samples=1, seed=0),
    parser="first_word",
    scorer="last_word",
    metrics=("accuracy",),
)


@pytest.mark.parametrize(
    "change",
    [
        {"items": (Item(id="a", fields={"context": "the king of the"}, target="keep"),)},
        {"prompt": "{context} "},
        {"decoding": Decoding(max_new_tokens=7, temperature=0.0, samples=1, seed=0)},
        {"parser": "whole"},
        {"scorer": "exact"},
        {"metrics": ("accuracy", "perplexity")},
        {"judge": "another"},
    ],
)
def test_benchmark_id_any_change_gives_another_id(change: dict) -> None:
    assert BASE.model_copy(update=change).id != BASE.id


def test_benchmark_id_is_the_same_for_equal_values() -> None:
    assert Benchmark.model_validate(BASE.model_dump()).id == BASE.id


def test_benchmark_score_parses_then_scores() -> None:
    assert BASE.score(" Castle, where", BASE.items[0]) == ("castle", 1.0)
