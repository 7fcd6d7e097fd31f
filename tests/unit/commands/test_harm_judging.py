"""``modelyard harms --judge`` with a scripted judge behind a real HTTP server, and with a real small model in a directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.commands.app import main
from modelyard.commands.harm_labelling import Tables
from modelyard.config import load_config
from modelyard.data.harms import gather
from modelyard.execution import ExecutionConfig
from modelyard.formats import harm_reviews
from modelyard.formats.harms import HarmText, read_texts
from modelyard.judges.harm_rules import HarmRule, Posed, asking
from modelyard.judges.judge import Judge
from modelyard.model.endpoint import Endpoint
from modelyard.model.subject import Subject
from modelyard.progress import silent
from tests.unit import small_model
from tests.unit.completions_server import serving
from tests.unit.judges.scripted import Scripted, listed
from tests.worlds.imported import harms

RULES = '[rules.rude]\nversion = 1\ntext = "A text must not say zzqx."\n\n[rules.cruel]\nversion = 3\ntext = "A text must not say wwyk."\n'
WORDS = {"rude": "zzqx", "cruel": "wwyk"}


def answer(context: Any, letter: str) -> float:
    """Knows of "zzqx" for sure, and says of "wwyk" always the same."""
    said = context[-1].content
    options = listed(said)
    if letter not in options:
        return -30.0
    breaks = "zzqx" in said.rpartition("Text:")[2] if "say zzqx" in said else False
    return math.log(0.9 if options[letter].startswith("Yes") == breaks else 0.1)


class Told(Scripted):
    """Also keeps what it was asked in chat."""

    def said(self) -> list[str]:
        return [one[-1].content for one in self.asked]  # type: ignore[attr-defined]


@contextlib.contextmanager
def judging(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Told, list[str]]]:
    """The judge, and the words that name it."""
    quick = Endpoint.__init__
    monkeypatch.setattr("modelyard.model.endpoint.WORKERS", 1)
    monkeypatch.setattr(Endpoint, "__init__", lambda self, url: quick(self, url, pause=0.0))
    model = Told(answer)
    with serving(model, only="chat/completions") as url:  # type: ignore[arg-type]
        yield model, ["--judge", f"{url}#large", "--chat"]


def world(root: Path, rows: list[dict[str, Any]], *more: tuple[str, str]) -> Path:
    """Labels, rules and a config; ``more``: (table, file)."""
    (root / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "rules.toml").write_text(RULES)
    text = '[harm_labels]\ncategories = { rude = "R", cruel = "C" }\n'
    for table, name in (("files", "labels.jsonl"), *more):
        sha256 = hashlib.sha256((root / name).read_bytes()).hexdigest()
        text += f'[[harm_labels.{table}]]\npath = "{name}"\nsha256 = "{sha256}"\nlicence = "CC0-1.0"\n'
    (root / "line.toml").write_text(text)
    return root / "line.toml"


def texts_of(root: Path, file: Path) -> tuple[dict[str, HarmText], dict[str, float]]:
    (root / "out").mkdir(exist_ok=True)
    metrics = gather.run(load_config(Tables, file).harm_labels, {}, root / "out", silent, [str(root)])
    return {one.text: one for one in read_texts(root / "out")}, metrics


def test_planted_error_of_a_held_out_label_is_a_suspect_of_the_judge_and_only_a_person_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = harms()
    sides, _ = texts_of(tmp_path, world(tmp_path, rows))
    wrong = next(row for row in rows if row["R"] and sides[str(row["prompt"])].split == "test")
    wrong["R"] = 0
    file, out, kept = world(tmp_path, rows), tmp_path / "suspects.jsonl", tmp_path / "agreement.json"
    with judging(monkeypatch) as (model, judge):
        words = ["harms", str(file), "--suspects", str(out), "--rules", str(tmp_path / "rules.toml"), "--json", str(kept), *judge]
        assert main([*words, "--min-kappa", "0.99"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "no rule's kappa has a lower end above --min-kappa 0.99; the best is rude-v1-" in error
        assert not out.exists()
        asked = len(model.asked)
        assert main([*words, "--desk", str(tmp_path / "desk")]) == 0
        assert len(model.asked) == asked, "what was answered is not asked again"
    printed = capsys.readouterr().out
    assert "1 doubtful labels of " in printed
    assert ["set aside" in line for line in printed.splitlines() if line.startswith(("rude-v1-", "cruel-v3-"))] == [False, True]

    held = {text for text, one in sides.items() if one.split == "test"}
    assert {said.rpartition("Text:\n")[2].split("\n")[0] for said in model.said()} == held, "held-out texts and no others"
    ((_, found),) = harm_reviews.read(out)
    assert (found.text, found.category, found.label, found.doubt, found.answer) == (wrong["prompt"], "rude", 0, 0.9, None)
    assert found.judge.startswith("large ")
    assert found.rule == next(one["rule"] for one in json.loads(kept.read_text()) if one["used"]) == Posed("rude", HarmRule(
        version=1, text="A text must not say zzqx.")).id  # fmt: skip
    assert str(wrong["prompt"]) in (tmp_path / "desk" / "items.jsonl").read_text()
    assert sorted(path.name for path in tmp_path.glob(".*")) == []

    both = ("reviews", "suspects.jsonl")
    before, metrics = texts_of(tmp_path, world(tmp_path, rows, both))
    assert (before[str(wrong["prompt"])].labels["rude"], metrics["harm_labels/corrected"]) == (0, 0)
    out.write_text(harm_reviews.lines([found.model_copy(update={"answer": 1, "by": "ann"})]))
    after, metrics = texts_of(tmp_path, world(tmp_path, rows, both))
    assert (after[str(wrong["prompt"])].labels["rude"], metrics["harm_labels/corrected"]) == (1, 1)


def test_pool_is_labelled_by_the_rules_that_the_judge_is_good_at_and_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out, kept = world(tmp_path, harms()), tmp_path / "more.jsonl", tmp_path / "agreement.json"
    people, _ = texts_of(tmp_path, file)
    draw = random.Random(0)
    told = [" ".join(f"w{draw.randrange(1000)}" for _ in range(8)) for _ in range(12)]
    pool = [{"text": f"{('you zzqx', 'i will wwyk', 'so')[number % 3]} {said}"} for number, said in enumerate(told)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*pool, {"text": harms()[0]["prompt"]}]))
    with judging(monkeypatch) as (model, judge):
        words = ["harms", str(file), "--pool", str(tmp_path / "pool.jsonl"), "--label", str(out), "--rules", str(tmp_path / "rules.toml"),
                 "--shots", "2", "--json", str(kept), *judge]  # fmt: skip
        assert main([*words, "--category", "cruel"]) == 2
        assert "the best is cruel-v3-" in (error := capsys.readouterr().err)
        assert "with 0.00 [-0." in error
        assert not any(told[0] in said for said in model.said()), "nothing of the pool was asked of a judge that guesses"
        assert main(words) == 0
    printed = capsys.readouterr().out
    assert "12 texts, of them by the judge rude 4" in printed
    assert f"sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}" in printed

    agreed = {one["category"]: one for one in json.loads(kept.read_text())}
    shown, train = set(agreed["rude"]["examples"]), [one for one in people.values() if one.split == "train"]
    assert (agreed["rude"]["used"], agreed["cruel"]["used"], len(shown)) == (True, False, 4)
    assert shown <= {one.id for one in train}
    near = {one.group for one in train if one.id in shown}
    assert agreed["rude"]["agreement"]["n"] == sum(one.group not in near for one in train) < len(train) - 3
    assert all(said.count("Answer: ") == 4 for said in model.said())

    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["prompt"]: row["R"] for row in found} == {row["text"]: int("zzqx" in row["text"]) for row in pool}
    assert all(row["C"] is None and set(row["judged"]["rules"]) == {"rude"} for row in found)
    assert {row["judged"]["rules"]["rude"]["rule"] for row in found} == {agreed["rude"]["rule"]}
    assert {row["judged"]["rules"]["rude"]["probability"] for row in found} == {0.9, 0.1}

    texts, metrics = texts_of(tmp_path, world(tmp_path, harms(), ("files", "more.jsonl")))
    mine = {text: one for text, one in texts.items() if one.judge}
    assert set(mine) == {row["text"] for row in pool}
    assert {one.judge for one in mine.values()} == {found[0]["judged"]["judge"]}
    assert metrics["harm_labels/judged"] == 12


def test_judge_by_letter_labels_no_text_of_the_pool_whose_reply_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(said: str) -> str:
        """Knows of "zzqx", and will not speak of soup."""
        breaks = "zzqx" in said.rpartition("Text:")[2]
        return "Let us not." if "soup" in said else next(mark for mark, one in listed(said).items() if one.startswith("Yes") == breaks)

    file, out = world(tmp_path, harms()), tmp_path / "more.jsonl"
    texts = ["you zzqx of the north", "soup of the day", "rain in the south"]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with judging(monkeypatch) as (model, judge):
        model.say = say
        words = ["harms", str(file), "--pool", str(tmp_path / "pool.jsonl"), "--label", str(out), "--rules", str(tmp_path / "rules.toml"),
                 "--category", "rude", "--choose-by", "letter", *judge]  # fmt: skip
        assert main(words) == 0
    printed = capsys.readouterr().out
    assert "replies without a letter: 0 of " in printed
    assert "2 texts, of them by the judge rude 1; 1 that it is undecided about are left out" in printed
    assert [(row["prompt"], row["R"]) for row in map(json.loads, out.read_text().splitlines())] == [(texts[0], 1), (texts[2], 0)]


def test_small_model_in_a_directory_doubts_what_it_says_against(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_model.write(tmp_path, seq_len=512)
    file, out = world(tmp_path, harms()), tmp_path / "suspects.jsonl"
    words = ["harms", str(file), "--suspects", str(out), "--judge", str(tmp_path / "hf"), "--rules", str(tmp_path / "rules.toml"),
             "--category", "rude", "--limit", "8", "--orders", "1", "--threads", "1"]  # fmt: skip
    assert main([*words, "--min-kappa", "-1"]) == 0
    judge = Judge(Subject.open("hf", tmp_path / "hf", ExecutionConfig(threads=1), 8),
                  asking(orders=1, shots=0, chat=False))  # fmt: skip
    posed = Posed("rude", HarmRule(version=1, text="A text must not say zzqx."))
    found = [review for _, review in harm_reviews.read(out)]
    said = judge.choose([posed.question(one.text) for one in found], (posed.question("N/A"),))
    assert found
    assert {(one.judge, one.rule) for one in found} == {(judge.identity, posed.id)}
    assert [one.doubt for one in found] == pytest.approx([line[one.label] for line, one in zip(said, found, strict=True)], abs=1e-3)

    assert main(["harms", str(file), "--suspects", str(tmp_path / "s"), "--judge", str(tmp_path / "hf"), "--category", "kind"]) == 2
    assert main(["harms", str(file), "--suspects", str(tmp_path / "s"), "--judge", str(tmp_path / "hf")]) == 2
    assert main(["harms", str(file), "--label", str(tmp_path / "s"), "--pool", str(tmp_path / "labels.jsonl")]) == 2
    said_wrong = capsys.readouterr().err
    assert "--category kind: expected one of any, rude, cruel" in said_wrong
    assert "has no rule for a category of harm_labels (rude, cruel)" in said_wrong
    assert "--judge belongs with --label" in said_wrong
