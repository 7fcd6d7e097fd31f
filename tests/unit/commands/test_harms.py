"""Doubtful labels go out, answers come back as reviews; a pool goes in, a file to be labelled comes out."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from modelyard.commands.app import main
from modelyard.commands.harm_labelling import Tables
from modelyard.config import load_config
from modelyard.data.harms import gather
from modelyard.formats.harms import read_texts
from modelyard.progress import silent
from tests.worlds.imported import harms


def write(root: Path, name: str, rows: list[dict]) -> str:
    (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return hashlib.sha256((root / name).read_bytes()).hexdigest()


def config(root: Path, *tables: tuple[str, str]) -> Path:
    """A config with labels and more files, (table, file)."""
    text = '[harm_labels]\ncategories = { rude = "R", cruel = "C" }\ntest_share = 0.3\n'
    for table, name in tables:
        sha256 = hashlib.sha256((root / name).read_bytes()).hexdigest()
        text += f'[[harm_labels.{table}]]\npath = "{name}"\nsha256 = "{sha256}"\nlicence = "CC0-1.0"\n'
    (root / "line.toml").write_text(text)
    return root / "line.toml"


def gathered(root: Path, file: Path) -> tuple[dict[str, dict[str, int]], dict[str, float]]:
    """Text -> labels, and the stage's metrics."""
    (root / "out").mkdir(exist_ok=True)
    metrics = gather.run(load_config(Tables, file).harm_labels, {}, root / "out", silent, [str(root)])
    return {one.text: one.labels for one in read_texts(root / "out")}, metrics


def test_planted_error_is_listed_and_changes_only_when_a_person_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = harms()
    write(tmp_path, "labels.jsonl", rows)
    trained = {one.text for one in gather.records(load_config(Tables, config(tmp_path, ("files", "labels.jsonl"))).harm_labels,
                                                  [str(tmp_path)])[0] if one.split == "train"}  # fmt: skip
    wrong = next(row for row in rows if row["C"] and row["prompt"] in trained)
    wrong["C"], wrong["R"] = 0, 0
    write(tmp_path, "labels.jsonl", rows)
    file = config(tmp_path, ("files", "labels.jsonl"))
    out = tmp_path / "suspects.jsonl"
    assert main(["harms", str(file), "--suspects", str(out)]) == 0
    assert "of them by confident learning too" in capsys.readouterr().out
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert (found[0]["text"], found[0]["category"], found[0]["label"], found[0]["answer"]) == (wrong["prompt"], "cruel", 0, None)

    both = ("files", "labels.jsonl"), ("reviews", "suspects.jsonl")
    before, metrics = gathered(tmp_path, config(tmp_path, *both))
    assert before[wrong["prompt"]]["cruel"] == 0
    assert (metrics["harm_labels/reviewed"], metrics["harm_labels/corrected"]) == (0, 0)
    write(tmp_path, "suspects.jsonl", [{**found[0], "answer": 1, "by": "ann"}, *found[1:]])
    after, metrics = gathered(tmp_path, config(tmp_path, *both))
    assert after[wrong["prompt"]]["cruel"] == 1
    assert {text for text in after if after[text] != before[text]} == {wrong["prompt"]}
    assert (metrics["harm_labels/reviewed"], metrics["harm_labels/corrected"]) == (1, 1)

    write(tmp_path, "suspects.jsonl", [{**found[0], "answer": 1}, {**found[0], "answer": 0}])
    with pytest.raises(ValueError, match=r"suspects\.jsonl:2: cruel of \w+ was answered otherwise before"):
        gathered(tmp_path, config(tmp_path, *both))
    write(tmp_path, "suspects.jsonl", [{**found[0], "answer": 1, "label": 1}])
    with pytest.raises(ValueError, match=r"suspects\.jsonl:1: no text \w+ has cruel = 1: the labels changed since"):
        gathered(tmp_path, config(tmp_path, *both))


def test_pool_becomes_a_file_to_label_that_is_refused_until_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = harms()
    write(tmp_path, "labels.jsonl", rows)
    draw = random.Random(0)
    words = [" ".join(f"w{draw.randrange(1000)}" for _ in range(8)) for _ in range(40)]
    stranger = [{"text": f"{'you zzqx' if number % 2 else 'a plain'} {said}"} for number, said in enumerate(words)]
    write(tmp_path, "pool.jsonl", [*stranger, stranger[0], {"prompt": rows[0]["prompt"]}])
    file, out = config(tmp_path, ("files", "labels.jsonl")), tmp_path / "next.jsonl"
    asked = ["harms", str(file), "--pool", str(tmp_path / "pool.jsonl"), "--next", str(out), "--number", "12", "--category", "rude"]
    assert main([*asked, "--random", "0.25", "--above", "0.5"]) == 0
    assert "3 at random, 6 that would be blocked, 3 uncertain" in capsys.readouterr().out
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(row["R"] is None and row["C"] is None and row["prompt"] != rows[0]["prompt"] for row in found)
    assert all("zzqx" in row["prompt"] for row in found if row["chosen"] == "above")

    with pytest.raises(ValueError, match=r"next\.jsonl:1: R and all others are null"):
        gathered(tmp_path, config(tmp_path, ("files", "labels.jsonl"), ("files", "next.jsonl")))
    write(tmp_path, "next.jsonl", [{**row, "R": int("zzqx" in row["prompt"]), "C": 0} for row in found])
    texts, _ = gathered(tmp_path, config(tmp_path, ("files", "labels.jsonl"), ("files", "next.jsonl")))
    assert all(texts[row["prompt"]]["rude"] == int("zzqx" in row["prompt"]) for row in found)

    assert main([*asked[:-1], "kind"]) == 2
    assert main([*asked, "--random", "0.9", "--above", "0.9"]) == 2
    assert main(["harms", str(file), "--next", str(out)]) == 2
    said = capsys.readouterr().err
    assert "--category kind: expected one of any, rude, cruel" in said
    assert "--random, --above: random and above are 1.8 together" in said
    assert "--next and --label want a --pool" in said
