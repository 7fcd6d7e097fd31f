"""The command that plans a run elsewhere: every shipped shape, and what it refuses."""

import json
from pathlib import Path

import pytest

from modelyard.commands.app import main
from modelyard.config import load_config
from modelyard.model.plan.layout_search import PlanConfig

CONFIGS = Path(__file__).parents[3] / "configs" / "model"


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["missing.toml", "--gpus", "8", "--memory-gib", "80"], 2, "modelyard layout: missing.toml: no such config file"),
        ([str(CONFIGS / "gpt3-175b.toml"), "--gpus", "8", "--memory-gib", "80"], 1, "are missing"),
        ([str(CONFIGS / "llama-1.3b.toml"), "--gpus", "8", "--memory-gib", "80", "--mfu", "2"], 2, "mfu must lie in (0, 1]"),
    ],
)
def test_command_that_cannot_plan_says_why_in_one_line(
    arguments: list[str], status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["layout", *arguments]) == status
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_command_plans_every_shipped_config(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layout", str(config), "--gpus", "4096", "--memory-gib", "80", "--json", str(tmp_path / "plan.json")]) == 0
    written = json.loads((tmp_path / "plan.json").read_text())
    shape = load_config(PlanConfig, config)
    assert written["parameters"] == shape.model.parameters()
    assert written["flops"] == shape.model.flops_per_token() * shape.tokens
    assert f"{written['parameters']:,}" in capsys.readouterr().out
