"""Variants differ only in what they vary; the page compares equal benchmarks only."""

import json
from pathlib import Path

import pytest

from modelyard.commands.app import main
from modelyard.evals import page
from modelyard.evals.analyses import ANALYSES, reordered, spread
from modelyard.evals.benchmark import Item
from modelyard.evals.catalog.choice import mmlu_question
from modelyard.evals.summary import Metric


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"subject": "ships", "question": f"Which {i}?", "choices": ["oak", "elm", "ash", "fir"], "answer": i % 4} for i in range(6)]
    (tmp_path / "mmlu").mkdir()
    (tmp_path / "mmlu" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mmlu" / "fewshot.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:5]))
    return tmp_path


def test_orders_move_the_right_option_with_its_text() -> None:
    row = {"question": "Which wood?\nA. is no option", "choices": ["oak", "elm", "ash", "fir"], "answer": 1}
    item = Item(id="x", fields={"question": mmlu_question(row)}, target="B", choices=tuple("ABCD"), right=(1,))

    moved = reordered(item, [3, 2, 1, 0])

    assert moved.fields["question"] == mmlu_question({**row, "choices": ["fir", "ash", "elm", "oak"]})
    assert (moved.right, moved.target) == ((2,), "C")
    assert reordered(moved, [3, 2, 1, 0]) == item


@pytest.mark.parametrize(("name", "count"), [("shots", 4), ("templates", 5), ("orders", 4)])
def test_variants_have_ids_of_their_own_and_the_same_questions(name: str, count: int, data: Path) -> None:
    variants = ANALYSES[name]("mmlu", data, None)

    assert len(variants) == count
    assert len({benchmark.id for benchmark in variants.values()}) == count
    assert len({tuple(item.id for item in benchmark.items) for benchmark in variants.values()}) == 1


def test_variants_of_sampling_refuse_what_is_not_sampled(data: Path) -> None:
    with pytest.raises(ValueError, match="generates nothing"):
        ANALYSES["seeds"]("mmlu", data, None)


def test_spread_between_variants() -> None:
    scores = {name: Metric(value, 0.1, 0, 1, 9) for name, value in (("a", 0.2), ("b", 0.4), ("c", 0.6))}

    assert spread(scores) == pytest.approx((0.2, 0.6, 0.2))


def write(directory: Path, score: float, identity: str = "1") -> Path:
    directory.mkdir()
    metric = {"value": score, "stderr": 0.01, "low": score - 0.02, "high": score + 0.02, "n": 100}
    content = {"benchmark": "arc_easy", "benchmark_id": identity, "metrics": {"acc": metric}}
    (directory / "arc_easy.metrics.json").write_text(json.dumps(content))
    return directory


def test_page_shows_each_steps_change_and_compares_no_other_ids(tmp_path: Path) -> None:
    sources = {"base": write(tmp_path / "a", 0.5), "sft": write(tmp_path / "b", 0.6, "2"), "policy": write(tmp_path / "c", 0.45)}
    found = {label: page.read(path)[0] for label, path in sources.items()}

    (row,) = page.evolution_rows(found)

    assert [cell["change"] for cell in row["cells"]] == [None, None, pytest.approx(-0.05)]
    assert row["cells"][1]["text"] == "-"
    assert main(["page", str(tmp_path / "out.html"), *(f"{label}={path}" for label, path in sources.items())]) == 0
    html = (tmp_path / "out.html").read_text()
    assert "0.4500 [0.4300, 0.4700]" in html
    assert "-0.0500" in html
    assert html.count("<svg") == 1
    assert main(["page", str(tmp_path / "out.html"), f"x={tmp_path}"]) == 2
