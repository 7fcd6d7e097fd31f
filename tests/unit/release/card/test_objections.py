"""The card shows the items by which a benchmark stopped the release: what was asked, expected and answered, as text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.formats import stored_images
from modelyard.formats.images import data_url, of_pixels
from modelyard.formats.questions import Question, write_questions
from modelyard.formats.results import read_results
from modelyard.progress import silent
from modelyard.release.card.objections import LONGEST, objections
from modelyard.release.decision import read_decision, run
from modelyard.release.limits import BenchmarkLimits, ReleaseConfig
from modelyard.stats.estimate import proportion
from tests.unit.release import evidence

WORDS = {"policy": 50, "production": 70}
"""Last words that each has right of 100; the release loses 50 to 69."""
RED = of_pixels(np.full((8, 8, 3), (200, 30, 30), np.uint8))


def answers(directory: Path, model: str, right: int, said: str, **more: Any) -> None:
    """Records of last words with their texts; those of the numbers below ``right`` are right."""
    path = directory / "records" / model / "last_word.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for k, row in enumerate(rows):
        row |= {"prompt": f"shots\n\nPrompt {k}", "target": f"<b>word {k}</b>", "output": f"word {k}" if k < right else said, **more}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def decided(root: Path, config: ReleaseConfig, gathered: bool = True) -> tuple[dict[str, Path], str]:
    """The inputs of a decision and the card's page."""
    inputs = evidence.write_all(root)
    evidence.write_results(inputs["baseline"], {"policy": "production"}, WORDS["production"])
    answers(inputs["results"], "policy", WORDS["policy"], "<script>alert(1)</script>")
    answers(inputs["baseline"], "policy", WORDS["production"], "?")
    if gathered:
        inputs["benchmarks"] = root / "benchmarks"
        text = "Which word is next? " + "x" * 2 * LONGEST + " end"
        asked = (Question(id=str(k), text=text if k == 50 else f"Question {k}", images=(RED.id,) if k == 51 else ()) for k in range(100))
        write_questions(inputs["benchmarks"], "last_word", asked)
        stored_images.write(inputs["benchmarks"], [RED])
    run(config, inputs, root, silent, evidence.satisfied, evidence.agreeing, "line")
    return inputs, (root / "card.html").read_text()


def shown(root: Path, inputs: Mapping[str, Path]) -> list[Any]:
    return objections(read_decision(root), read_results(inputs["results"]), inputs)


def test_items_lost_against_production_stand_with_question_target_answers_and_picture(tmp_path: Path) -> None:
    inputs, card = decided(tmp_path, evidence.CONFIG)
    (one,) = shown(tmp_path, inputs)
    assert (one.gate, one.verdict, one.said) == ("regression", "BLOCK", "last word: 20 items lost against production, the first 5 here")
    assert [item.item for item in one.items] == ["50", "51", "52", "53", "54"], "those that the reason names"
    assert [tuple(answer) for answer in one.items[1].answers] == [
        ("this release", "<script>alert(1)</script>", "0"),
        ("production", "word 51", "1"),
    ]
    assert (one.items[1].question, one.items[1].target, one.items[1].images) == ("Question 51", "<b>word 51</b>", (data_url(RED.png),))
    long = one.items[0].question
    assert LONGEST <= len(long) < LONGEST + 10
    assert long.startswith("Which word is next?")
    assert long.endswith("x end")
    assert "&lt;script&gt;alert(1)" in card
    assert "&lt;b&gt;word 51&lt;/b&gt;" in card
    assert data_url(RED.png) in card
    assert "<script>alert" not in card
    assert "<b>word" not in card


def test_without_the_benchmarks_the_prompt_of_the_record_is_what_was_asked(tmp_path: Path) -> None:
    inputs, card = decided(tmp_path, evidence.CONFIG, gathered=False)
    assert shown(tmp_path, inputs)[0].items[0].question == "shots\n\nPrompt 50"
    assert "Prompt 54" in card
    assert "Prompt 55" not in card


def test_production_that_was_asked_something_else_says_nothing_beside(tmp_path: Path) -> None:
    inputs, _ = decided(tmp_path, evidence.CONFIG)
    answers(inputs["baseline"], "policy", 70, "?", benchmark_id="another")
    assert [answer.who for answer in shown(tmp_path, inputs)[0].items[0].answers] == ["this release"]


@pytest.mark.parametrize(
    ("limits", "right", "said"),
    [
        ({"min": {"acc": 0.95}}, 94, "last word: 6 items failed by acc, the first 5 here"),
        ({"max": {"error": 0.01}}, 94, "last word: 6 items failed by error, the first 5 here"),
    ],
)
def test_missed_limit_shows_the_items_that_failed(tmp_path: Path, limits: dict[str, Any], right: int, said: str) -> None:
    inputs = evidence.write_all(tmp_path)
    for role in ("results", "baseline"):
        weights = json.loads((inputs[role] / "weights.json").read_text())
        evidence.write_results(inputs[role], weights, right)
        answers(inputs[role], "policy", right, "wrong")
    table = json.loads((inputs["results"] / "results.json").read_text())
    table |= {f"evals/policy/last_word/{key}": proportion(count, 100).plain() for key, count in (("acc", right), ("error", 100 - right))}
    evidence.write(inputs["results"] / "results.json", table)
    own = {**evidence.CONFIG.limits, "last_word": BenchmarkLimits.model_validate(limits)}
    run(evidence.CONFIG.model_copy(update={"limits": own}), inputs, tmp_path, silent, evidence.satisfied, evidence.agreeing, "line")
    (one,) = shown(tmp_path, inputs)
    assert (one.gate, one.said, [item.item for item in one.items]) == ("regression", said, ["94", "95", "96", "97", "98"])
    assert [(answer.who, answer.text) for answer in one.items[0].answers] == [("this release", "wrong"), ("production", "wrong")]


def test_release_that_nothing_speaks_against_shows_no_items(tmp_path: Path) -> None:
    inputs = evidence.write_all(tmp_path)
    run(evidence.CONFIG, inputs, tmp_path, silent, evidence.satisfied, evidence.agreeing, "line")
    assert shown(tmp_path, inputs) == []
    assert not re.search("items that speak against it", (tmp_path / "card.html").read_text())
