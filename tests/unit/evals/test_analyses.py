"""Variants differ only in what they vary."""

import json
from functools import partial
from pathlib import Path

import pytest

from modelyard.evals import analyses
from modelyard.evals.analyses import ANALYSES, labelled, reordered, spread
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog import build
from modelyard.evals.catalog.choice import lettered_question
from modelyard.evals.catalog.options import OptionRow
from modelyard.evals.item import Item
from modelyard.stats.estimate import Estimate


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"subject": "ships", "question": f"Which {i}?", "choices": ["oak", "elm", "ash", "fir"], "answer": i % 4} for i in range(6)]
    (tmp_path / "mmlu").mkdir()
    (tmp_path / "mmlu" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mmlu" / "fewshot.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:5]))
    return tmp_path


def write_text(data: Path) -> None:
    (data / "text").mkdir()
    (data / "text" / "a.txt").write_text("the king of the castle\n")


def test_orders_move_the_right_option_with_its_text() -> None:
    row = OptionRow("mmlu:1", "Which wood?\nA. is no option", ("oak", "elm", "ash", "fir"), (1,), "", "")
    item = Item(id="x", fields={"question": lettered_question(row)}, target="B", choices=tuple("ABCD"), right=(1,))

    moved = reordered(item, [3, 2, 1, 0])

    assert moved.fields["question"] == lettered_question(row._replace(choices=("fir", "ash", "elm", "oak")))
    assert (moved.right, moved.target) == ((2,), "C")
    assert reordered(moved, [3, 2, 1, 0]) == item


def test_orders_and_templates_leave_the_label_of_a_language_where_it_is(data: Path) -> None:
    row = OptionRow("c", "哪种木头\uff1f", ("橡", "榆"), (1,), "", "")
    item = Item(id="x", fields={"question": lettered_question(row, "答案\uff1a")}, target="B", choices=tuple("AB"), right=(1,))

    assert reordered(item, [1, 0]).fields["question"] == "哪种木头\uff1f\nA. 榆\nB. 橡\n答案\uff1a"
    assert labelled(item) == ("哪种木头\uff1f\nA. 橡\nB. 榆", "答案\uff1a")
    for benchmark in ANALYSES["templates"]("mmlu", partial(build, data=data)).values():
        assert benchmark.prompt_of(benchmark.items[0]).count("Answer:") <= 1


def test_shots_are_those_that_a_benchmark_takes(data: Path) -> None:
    made = build("mmlu", data)

    def only(name: str, /, *, shots: int | None = None) -> Benchmark:
        if shots not in (0, 3):
            raise ValueError(f"{name} has 3 examples a task or none")
        return made

    assert list(analyses.shots("bbh", only)) == ["0 shots", "3 shots"]


def test_answers_are_explained_of_every_benchmark_that_can_be_asked_for_one(data: Path) -> None:
    for name in ("mmlu", "mmlu_ships"):
        direct, told = ANALYSES["chain_of_thought"](name, partial(build, data=data)).values()
        assert [item.id for item in direct.items] == [item.id for item in told.items]
        assert (direct.parser, direct.method, told.method) == ("letter", "generate", "explain")
    write_text(data)
    with pytest.raises(ValueError, match="generates nothing"):
        ANALYSES["chain_of_thought"]("perplexity", partial(build, data=data))


@pytest.mark.parametrize(("name", "count"), [("shots", 4), ("templates", 5), ("orders", 4)])
def test_variants_have_ids_of_their_own_and_the_same_questions(name: str, count: int, data: Path) -> None:
    variants = ANALYSES[name]("mmlu", partial(build, data=data))

    assert len(variants) == count
    assert len({benchmark.id for benchmark in variants.values()}) == count
    assert len({tuple(item.id for item in benchmark.items) for benchmark in variants.values()}) == 1


def test_variants_of_sampling_draw_the_letter_of_options_and_refuse_what_is_not_sampled(data: Path) -> None:
    variants = ANALYSES["seeds"]("mmlu", partial(build, data=data)).values()
    assert {(one.method, one.parser, one.decoding.temperature) for one in variants} == {("generate", "letter", 0.7)}
    assert len({one.decoding.seed for one in variants}) == 5
    write_text(data)
    with pytest.raises(ValueError, match="generates nothing"):
        ANALYSES["seeds"]("perplexity", partial(build, data=data))


def test_spread_between_variants() -> None:
    scores = {name: Estimate(value, 0, 1, 9) for name, value in (("a", 0.2), ("b", 0.4), ("c", 0.6))}

    assert spread(scores) == pytest.approx((0.2, 0.6, 0.2))
