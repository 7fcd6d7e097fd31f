"""A benchmark's id changes with everything a score depends on, the code that asks, scores and summarises among it."""

import ast
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark
from modelyard.evals.catalog.safety import ATTACKS, REPLY
from modelyard.evals.item import Item
from modelyard.evals.methods import METHODS
from modelyard.evals.sampling import sampled
from modelyard.model.asked import Decoding
from modelyard.store import code_identity

BASE = Benchmark(
    name="last_word",
    items=(Item(id="a", fields={"context": "the king of the"}, target="castle"),),
    prompt="{context}",
    decoding=Decoding(max_new_tokens=6, temperature=0.0, samples=1, seed=0),
    parser="first_word",
    scorer="last_word",
    metrics=("acc",),
    method="word",
)
LOSS = BASE.model_copy(
    update={"scorer": "log_likelihood", "parser": "whole", "method": "loss", "metrics": ("nats_per_byte",), "decoding": NOTHING_DRAWN}
)
CODE = BASE.model_copy(update={"scorer": "unit_tests", "parser": "function_body", "method": "code", "metrics": ("pass_at_1",)})
TOXIC = BASE.model_copy(update={"scorer": "toxicity", "parser": "whole", "method": "toxicity", "metrics": ("toxicity",)})
XSTEST = BASE.model_copy(
    update={
        "name": "xstest",
        "decoding": REPLY,
        "parser": "refusal",
        "scorer": "exact",
        "method": "generate",
        "metrics": ("exact", "over_refusal"),
        "chat": True,
    }
)


@pytest.mark.parametrize(
    "change",
    [
        {"items": (Item(id="a", fields={"context": "the king of the"}, target="keep"),)},
        {"prompt": "{context} "},
        {"decoding": Decoding(max_new_tokens=7, temperature=0.0, samples=1, seed=0)},
        {"parser": "whole"},
        {"scorer": "exact"},
        {"metrics": ("acc", "word_perplexity")},
        {"method": "generate"},
        {"chat": True},
        {"judge": "another"},
    ],
)
def test_benchmark_id_any_change_gives_another_id(change: dict) -> None:
    assert BASE.model_copy(update=change).id != BASE.id


def test_benchmark_id_is_the_same_for_equal_values() -> None:
    assert Benchmark.model_validate_json(BASE.model_dump_json()).id == BASE.id


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """``edited(module, old, new)``: the module's source reads otherwise from now on."""
    changed: dict[str, str] = {}
    original, caches = code_identity._parse, (code_identity.code_version, code_identity.definition_version, code_identity._module)

    def parse(name: str) -> ast.Module | None:
        return code_identity._without_docstrings(ast.parse(changed[name])) if name in changed else original(name)

    def edit(module: str, old: str, new: str) -> None:
        path = code_identity._file(module)
        assert path
        text = changed.get(module) or Path(path).read_text()
        assert old in text, f"{module} does not hold {old!r}"
        changed[module] = text.replace(old, new)
        for cached in caches:
            cached.cache_clear()

    monkeypatch.setattr(code_identity, "_parse", parse)
    yield edit
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize(
    ("benchmark", "module", "old", "new"),
    [
        (LOSS, "modelyard.evals.likelihoods", "one.total / size", "2 * one.total / size"),
        (LOSS, "modelyard.evals.metrics", 'r.values["nats"] / r.values["bytes"]', 'r.values["nats"]'),
        (LOSS, "modelyard.model.asked", "context[len(bare) :] + continuation", "continuation"),
        (BASE, "modelyard.evals.scorers", "exact(parsed.lower(), first_word(target))", "exact(parsed, target)"),
        (BASE, "modelyard.evals.asking", "benchmark.decoding.seed + number", "benchmark.decoding.seed"),
        (TOXIC, "modelyard.evals.tools", "TOXIC = 0.5", "TOXIC = 0.4"),
        (TOXIC, "modelyard.evals.metrics", "1 - r.score", "r.score"),
        (CODE, "modelyard.judges.sandbox.sandbox_runner", '"token"', '"key"'),
        (CODE, "modelyard.evals.metrics", "1.0 - math.comb", "math.comb"),
        (XSTEST, "modelyard.judges.refusal", '"as an ai", ', ""),
        (
            XSTEST,
            "modelyard.evals.asking",
            "model.turn(said(benchmark, item)) if benchmark.chat else",
            "item.question if benchmark.chat else",
        ),
        (XSTEST, "modelyard.evals.metrics", 'replied(items, "answer", "refusal", seed)', 'replied(items, "answer", "answer", seed)'),
        (XSTEST, "modelyard.model.asked", "Assistant:", "Bot:"),
    ],
)
def test_benchmark_id_changes_with_the_code_that_asks_and_scores_it(
    benchmark: Benchmark, module: str, old: str, new: str, edited: Callable[[str, str, str], None]
) -> None:
    before = benchmark.id

    edited(module, old, new)

    assert benchmark.id != before


@pytest.mark.parametrize(
    ("benchmark", "module", "old", "new"),
    [
        (LOSS, "modelyard.evals.likelihoods", "choice in item.right", "choice not in item.right"),
        (LOSS, "modelyard.judges.refusal", '"as an ai", ', ""),
        (BASE, "modelyard.judges.sandbox.sandbox_runner", '"token"', '"key"'),
        (BASE, "modelyard.evals.tools", "TOXIC = 0.5", "TOXIC = 0.4"),
        (XSTEST, "modelyard.evals.metrics", "1.0 - math.comb", "math.comb"),
        (CODE, "modelyard.judges.judge", "NOTHING", "NONE"),
    ],
)
def test_benchmark_id_is_not_changed_by_the_code_of_others(
    benchmark: Benchmark, module: str, old: str, new: str, edited: Callable[[str, str, str], None]
) -> None:
    before = benchmark.id

    edited(module, old, new)

    assert benchmark.id == before


def test_every_method_is_asked_by_the_function_that_its_id_hashes() -> None:
    assert {function.__name__ for function in METHODS.values()} == {f"ask_{method}" for method in METHODS}
    for method, function in METHODS.items():
        assert function.__name__ == f"ask_{method}"
        assert BASE.model_copy(update={"method": method}).id


def test_two_ways_of_asking_have_two_ids() -> None:
    assert XSTEST.id != XSTEST.model_copy(update={"chat": False}).id
    assert XSTEST.id != XSTEST.model_copy(update={"decoding": REPLY.model_copy(update={"max_new_tokens": 8})}).id


def test_questions_are_searched_without_instructions_examples_or_answers() -> None:
    item = Item(id="a", fields={"question": "Who?", "hint": "h"}, target="me")
    asked = BASE.model_copy(update={"items": (item,), "prompt": "Q: {question}\nA:", "prefaces": {"": "Q: one\nA: 1\n\n"}})
    attack = Item(id="b", fields={"question": ATTACKS["fiction"].format(prompt="Who?")}, target="refusal", question="Who?")

    assert asked.prompt_of(item) == "Q: one\nA: 1\n\nQ: Who?\nA:"
    assert asked.question_of(item) == asked.question_of(attack) == "Who?"


def test_limit_is_a_seeded_sample_of_every_group() -> None:
    groups = {"large": 600, "small": 60, "tiny": 3}
    items = [Item(id=f"{name}-{i}", fields={}, target="", group=name) for name, n in groups.items() for i in range(n)]

    chosen = sampled(items, 221, seed=0)

    assert [sum(item.group == name for item in chosen) for name in groups] == [200, 20, 1]
    assert list(chosen) == [item for item in items if item in chosen], "in the order of the file"
    assert chosen == sampled(items, 221, seed=0) != sampled(items, 221, seed=1)
    assert [item.id for item in chosen[:3]] != ["large-0", "large-1", "large-2"]
    assert sampled(items, 10_000, seed=0) == tuple(items)
    assert sampled(items, 1 / 3, seed=0) == chosen, "663 / 3: a share is the number that it comes to"
    assert len(sampled(items[:3], 0.01, seed=0)) == 1
    assert Counter(item.group for item in sampled(items, 3, seed=0)) == dict.fromkeys(groups, 1), (
        "one of each, where that is enough for all"
    )
    assert {item.group for item in sampled(items, 2, seed=0)} == {"large"}
    for wrong in (0, -1, 1.5):
        with pytest.raises(ValueError, match="limit must be at least 1 and whole, or a share between 0 and 1"):
            sampled(items, wrong, seed=0)
