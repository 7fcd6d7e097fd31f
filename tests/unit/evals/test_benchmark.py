"""A benchmark's id changes with everything a score depends on."""

import ast
import copy

import pytest

from modelyard.evals.benchmark import Benchmark, Item
from modelyard.model.asked import Decoding
from modelyard.store import code_identity

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


@pytest.mark.parametrize(
    ("scorer", "touched", "changes"),
    [
        ("last_word", "modelyard.evals.sandbox.sandbox_runner", False),
        ("last_word", "modelyard.stats.estimate", False),
        ("log_likelihood", "modelyard.evals.toxicity", False),
        ("unit_tests", "modelyard.evals.sandbox.sandbox_runner", True),
        ("toxicity", "modelyard.evals.toxicity", True),
    ],
)
def test_benchmark_id_changes_with_the_code_that_scores_it_alone(
    scorer: str, touched: str, changes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = BASE.model_copy(update={"scorer": scorer})
    before = benchmark.id
    parse = code_identity._parse
    extra = ast.parse("another = 1").body
    caches = (code_identity.code_version, code_identity.definition_version)

    def edited(name: str) -> ast.Module | None:
        tree = copy.deepcopy(parse(name))
        if name == touched and tree is not None:
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef):
                    node.body = [*extra, *node.body]
        return tree

    monkeypatch.setattr(code_identity, "_parse", edited)
    for cached in caches:
        cached.cache_clear()
    try:
        assert (benchmark.id != before) is changes
    finally:
        for cached in caches:
            cached.cache_clear()


def test_benchmark_score_parses_then_scores() -> None:
    assert BASE.score(" Castle, where", BASE.items[0]) == ("castle", 1.0)
