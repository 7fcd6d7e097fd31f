"""``modelyard judge`` on a real small judge."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.commands.app import main
from modelyard.commands.judge import open_rubric
from modelyard.execution import ExecutionConfig
from modelyard.judges.agreement import measure
from modelyard.judges.judge import Asking, Judge
from modelyard.model.subject import Subject
from tests.unit import small_model

RUBRIC = Path(__file__).parents[3] / "configs" / "rubrics" / "quality.toml"


def test_command_prints_and_keeps_the_agreement(tmp_path: Path, capsys: Any) -> None:
    small_model.write(tmp_path, seq_len=512)
    out = tmp_path / "agreement.json"

    assert main(["judge", str(RUBRIC), "--judge", str(tmp_path / "hf"), "--orders", "2", "--threads", "1", "--json", str(out)]) == 0

    (kept,) = json.loads(out.read_text())
    judge = Judge(
        Subject.open("hf", tmp_path / "hf", ExecutionConfig(threads=1), 8), Asking(orders=2, calibrate="nothing", shots=0, chat=False)
    )
    assert kept == json.loads(measure(judge, open_rubric(RUBRIC), 0).model_dump_json())
    printed = capsys.readouterr().out
    assert f"accuracy {kept['accuracy']:.3f}" in printed
    assert printed.count("\n") == 2 + len(kept["confusion"])


@pytest.mark.parametrize(
    ("rubric", "arguments", "message"),
    [
        ("nowhere.toml", ["--judge", "x"], "nowhere.toml: cannot be read"),
        ('name = "Bad Name"', ["--judge", "x"], "r.toml: name: "),
        (RUBRIC.read_text(), ["--judge", "x"], "neither a model directory"),
        (RUBRIC.read_text(), ["--judge", "http://127.0.0.1:9/v1"], "name the model after a #"),
    ],
)
def test_command_bad_input_is_one_line(rubric: str, arguments: list[str], message: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "r.toml"
    if rubric.endswith(".toml"):
        path = tmp_path / rubric
    else:
        path.write_text(rubric)

    assert main(["judge", str(path), *arguments]) == 2

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
