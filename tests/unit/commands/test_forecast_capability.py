"""The command: a law from files of per-item records, what it holds back, what it says follows no law, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelyard.commands.app import main

AT = ["--at", "1e14", "--at-tokens", "1e9", "--at-mix", "same"]
COMPUTES = (1e10, 3e10, 1e11, 3e11)
SAMPLES = 200
PROBLEMS = 24


def law(compute: float, problem: int) -> float:
    """-log pass rate that falls evenly on logarithmic axes, the harder the problem the higher."""
    return float((0.2 + 2 * problem / PROBLEMS) * 1e2 * compute**-0.2)


def at_once(compute: float, problem: int) -> float:
    """A capability that is not there until it is, as carrying in sums."""
    return 3.0 / (1 + (compute / 2e11) ** 2) + 0.02


def measured(folder: Path, name: str, compute: float, failure: object = law) -> str:
    """A model's row; its records lie in ``folder``."""
    generator = np.random.default_rng(int(name[1:]))
    lines = []
    for problem in range(PROBLEMS):
        passed = generator.random(SAMPLES) < np.exp(-failure(compute, problem))
        lines += [json.dumps({"benchmark": "sums", "item": f"p{problem}", "score": int(one)}) for one in passed]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return f"{name},{compute:g},{name}.jsonl"


def write(folder: Path, failure: object = law, computes: tuple[float, ...] = (*COMPUTES, 1e13)) -> Path:
    rows = [measured(folder, f"m{number}", compute, failure) for number, compute in enumerate(computes)]
    (folder / "points.csv").write_text("\n".join(["run,train_flops,records", *rows]) + "\n")
    return folder / "points.csv"


def test_larger_model_that_is_held_back_lies_inside_every_buckets_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert main(["forecast", "capability", str(write(tmp_path)), "--judge", "run=m4", "--buckets", "3", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [one["bucket"] for one in found] == [0, 1, 2]
    assert all(one["inside"] and not one["objection"] for one in found)
    assert all(one["prediction"] == pytest.approx(one["measured"], rel=0.4) for one in found)
    assert all(one["at_compute"] == 1e13 for one in found)
    said = capsys.readouterr().out
    warning, head = said.splitlines()[:2]
    assert warning == "warning: no column says how many tokens the runs saw: that they are of one token horizon was not checked"
    assert head.split()[:3] == ["bucket", "problems", "unsolved"]
    assert said.count("inside") == 3


def test_what_is_learned_all_at_once_is_said_to_follow_no_law_before_it_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = write(tmp_path, at_once, (1e10, 2e10, 4e10, 8e10, 1.4e11))
    assert main(["forecast", "capability", str(points), "--at", "1e13", *AT[2:], "--buckets", "1"]) == 0
    said = capsys.readouterr().out
    assert "bucket 1: falls faster with every model, as what is learned all at once does" in said
    assert "no law" in said


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ("", ["--at", "1e13", "--judge", "run=m4"], "say either --at FLOPS or a --judge that holds back one model"),
        ("", [], "say either --at FLOPS or a --judge"),
        ("", ["--at", "1e9", *AT[2:]], "target 1e+09 FLOPs is not beyond the largest model"),
        ("", [*AT, "--benchmark", "code"], "m0.jsonl: holds sums; name one with --benchmark"),
        ("", [*AT, "--buckets", "30"], "24 problems do not fill 30 buckets"),
        ("half", AT, "m2.jsonl: item p0: score 0.5 is neither passed (1) nor failed (0)"),
        ("fewer", AT, f"m2.jsonl: item p23: {SAMPLES - 1} samples, but item p0 has {SAMPLES}"),
        ("other", ["--judge", "run=m2"], "points.csv: its models tried different problems; not all have p23"),
        ("asked", AT, "points.csv: its models were asked in different ways (benchmark ids"),
        ("gone", AT, "m2.jsonl"),
        ("", ["--at", "1e14"], "points.csv: say --at-mix, the data mix of the run to predict"),
        ("", ["--at", "1e14", "--at-mix", "same"], "points.csv: say --at-tokens D, the training tokens of the run to predict"),
        ("mixes", ["--judge", "run=m4"], "points.csv: the runs differ in data_mix (a, b); select with --fit or say --allow-changed-mix"),
        ("horizons", ["--judge", "run=m4"], "points.csv: the runs are of several token horizons (token_multiple: 10xC, 1xC, 20xC)"),
        ("column", AT, "no column for the files of records (one of records)"),
    ],
)
def test_what_cannot_be_counted_is_one_line(
    change: str, arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points, file = write(tmp_path), tmp_path / "m2.jsonl"
    lines = file.read_text().splitlines()
    if change == "half":
        file.write_text("\n".join([json.dumps({"benchmark": "sums", "item": "p0", "score": 0.5}), *lines]) + "\n")
    elif change == "fewer":
        file.write_text("\n".join(lines[:-1]) + "\n")
    elif change == "other":
        file.write_text("\n".join(line for line in lines if '"p23"' not in line) + "\n")
    elif change == "asked":
        file.write_text("\n".join(line.replace('{"benchmark"', '{"benchmark_id": "0123", "benchmark"') for line in lines) + "\n")
    elif change == "gone":
        file.unlink()
    elif change in ("mixes", "horizons"):
        head, *rows = points.read_text().splitlines()
        column, values = ("data_mix", "aabaa") if change == "mixes" else ("token_multiple", ("1xC", "10xC", "1xC", "20xC", "1xC"))
        points.write_text("\n".join([f"{head},{column}", *(f"{row},{value}" for row, value in zip(rows, values, strict=True))]) + "\n")
    elif change == "column":
        points.write_text(points.read_text().replace("records", "file"))
    assert main(["forecast", "capability", str(points), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
