"""Rules on harm as prompts: what a judge reads, which examples it is shown, and what an id stands for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from modelyard.formats.harms import HarmText
from modelyard.judges.answers import Answers
from modelyard.judges.harm_rules import LONGEST, HarmRule, Posed, asking, examples
from modelyard.judges.judge import Judge

from .scripted import Scripted, biased

RULE = HarmRule(version=2, text="Nobody may be called a goose.")


def text(number: int, rude: int, cruel: int = 0) -> HarmText:
    return HarmText(id=f"{number:016x}", text=f"you {'goose' if rude else 'swan'} {number}", split="train", group=f"{number:016x}",
                    labels={"rude": rude, "cruel": cruel})  # type: ignore[arg-type]  # fmt: skip


def judge(model: Scripted) -> Judge:
    return Judge(model, asking(orders=2, shots=1, chat=False))  # type: ignore[arg-type]


def knows(context: str, option: str) -> float:
    """2 nats for the right answer about the last text."""
    return 2.0 * (("goose" in context.rpartition("Text:")[2]) == option.startswith("Yes"))


def test_rule_is_asked_in_both_orders_of_its_answers_with_examples_and_the_start_of_the_text(tmp_path: Path) -> None:
    model = Scripted(biased(lambda context, option: 5 * knows(context, option), "A"))
    shown = (text(1, 1), text(2, 0))
    posed = Posed("rude", RULE, shown)
    p = posed.ask(judge(model), ["a goose" + "!" * 5000, "a swan", "a goose" + "!" * 5000], Answers(tmp_path / "answers"))

    sure = (1 / (1 + math.exp(-13)) + 1 / (1 + math.exp(-7))) / 2
    assert p.tolist() == pytest.approx([sure, 1 - sure, sure], abs=1e-4), "its love of the first place is averaged out"
    assert model.asked[0] == (
        "You check texts against one rule on harmful content.\n\nRule: Nobody may be called a goose.\n\nDoes the last text break the rule?\n"
        "A. Yes, it breaks the rule\nB. No, it does not break the rule\n\nText:\nyou goose 1\n\nAnswer: A\n\nText:\nyou swan 2\n\nAnswer: B\n\n"
        f"Text:\na goose{'!' * (LONGEST - 7)}\n\nAnswer:"
    )
    assert "A. No, it does not break the rule\nB. Yes" in model.asked[1]
    assert "you goose 1\n\nAnswer: B" in model.asked[1]
    assert sum("a goose!" in one for one in model.asked) == 2, "a text that stands twice is asked once"

    ids = {posed.id, Posed("rude", RULE).id, Posed("rude", RULE, shown[::-1]).id, Posed("rude", RULE.model_copy(update={"text": "x"})).id}
    assert len(ids) == 4
    assert all(one.startswith("rude-v2-") for one in ids)


def test_answers_of_a_run_that_was_killed_are_not_asked_again_and_a_cut_line_is(tmp_path: Path) -> None:
    path, posed = tmp_path / "answers", Posed("rude", RULE)
    texts = [f"a {'goose' if number % 3 else 'swan'} {number}" for number in range(70)]
    whole = posed.ask(judge(Scripted(biased(knows, ""))), texts, Answers(path))
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 70
    path.write_text("".join(lines[:40]) + lines[40][:30])
    model = Scripted(biased(knows, ""))
    assert posed.ask(judge(model), texts, Answers(path)).tolist() == whole.tolist()
    assert len(model.asked) == 2 * 30
    assert {json.loads(line)["key"] for line in path.read_text().splitlines()} == {json.loads(line)["key"] for line in lines}
    other = Scripted(biased(knows, ""))
    other.weights = "another"
    posed.ask(judge(other), texts[:1], Answers(path))
    assert other.asked, "another judge's answers are its own"
    path.write_text('{"key": "x"}\n')
    with pytest.raises(ValueError, match=r"answers:1: value: Input should be a valid list"):
        Answers(path)


def test_examples_are_as_many_of_either_kind_half_of_the_others_harmful_and_leave_half_to_measure_on() -> None:
    texts = [*(text(n, 1) for n in range(5)), *(text(n, 0, 1) for n in range(10, 16)), *(text(n, 0) for n in range(20, 40))]
    shown = examples(texts, "rude", 4, seed=0)
    assert sorted((one.labels["rude"], one.labels["cruel"]) for one in shown) == [(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 0)]
    assert shown == examples(texts[::-1], "rude", 4, seed=0)
    assert shown != examples(texts, "rude", 4, seed=1)
    long = text(99, 1).model_copy(update={"text": "goose " * 200})
    assert long not in examples([long, *texts], "rude", 3, seed=0)
