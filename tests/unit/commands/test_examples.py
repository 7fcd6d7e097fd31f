"""The commands of ``examples/`` as they stand, on the data beside them."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelyard.commands.app import main
from modelyard.exit_codes import BLOCK, DONE

EXAMPLES = Path(__file__).parents[3] / "examples"


def run(name: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Any]:
    """Exit code of an example's command in a copy of its folder, and the JSON that it wrote."""
    shutil.copytree(EXAMPLES / name, work / name)
    monkeypatch.chdir(work / name)
    (line,) = [line for line in Path("run.sh").read_text().splitlines() if line.startswith("modelyard ")]
    words = shlex.split(line)
    code = main(words[1:])
    return code, json.loads(Path(words[words.index("--json") + 1]).read_text())


def test_every_example_has_a_row_and_a_test() -> None:
    folders = {path.parent.name for path in EXAMPLES.glob("*/run.sh")}
    listed = {line.split("`")[1] for line in (EXAMPLES / "README.md").read_text().splitlines() if line.startswith("| `")}
    assert folders == listed == {"compare", "forecast", "contamination", "plan"}


def test_compare_blocks_for_the_benchmark_that_is_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, found = run("compare", tmp_path, monkeypatch)
    assert code == BLOCK
    assert {one["benchmark"]: one["verdict"] for one in found}["arithmetic"] == "worse"


def test_forecast_holds_the_law_that_its_points_were_drawn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, found = run("forecast", tmp_path, monkeypatch)
    assert code == DONE
    params = (7.2e19 / 120) ** 0.5
    truth = 1.69 + 406.4 / params**0.34 + 410.7 / (20 * params) ** 0.28
    assert found["low"] <= truth <= found["high"]


def test_contamination_finds_the_one_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, found = run("contamination", tmp_path, monkeypatch)
    assert code == DONE
    assert found["contaminated"] == found["content"]["contaminated"] == [2]
    assert [hit["document"] for hit in found["content"]["hits"]] == ["train/pages.jsonl:2"]


def test_plan_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, found = run("plan", tmp_path, monkeypatch)
    assert code == DONE
    assert found["free_bytes"] > 0
