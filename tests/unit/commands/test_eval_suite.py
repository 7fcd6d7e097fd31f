"""A suite whose server fails, on a real one: which benchmarks are still asked, and what of an earlier run keeps its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.commands.app import main
from tests.unit.evals.test_suite_and_exams import write_kinds
from tests.unit.model.test_endpoint import chosen, server


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ask a suite of one aspect; the exit status and ``suite.json``."""
    monkeypatch.setattr("modelyard.model.endpoint.WORKERS", 1)
    monkeypatch.setattr("modelyard.model.completions_client.ended_within", lambda ended, seconds: False)
    write_kinds(tmp_path)

    def started(url: str, *names: str) -> tuple[int, dict[str, Any]]:
        (tmp_path / "s.toml").write_text(f'name = "s"\nchat = true\nchoose_by = "letter"\n[aspects]\na = {json.dumps(names)}\n')
        given = ["--suite", str(tmp_path / "s.toml"), "--data", str(tmp_path), "--max-new-tokens", "3", "--out", str(tmp_path / "out")]
        return main(["eval", url, *given]), json.loads((tmp_path / "out" / "suite.json").read_text())

    return started


def test_prompt_that_a_server_never_answers_fails_its_own_benchmark_alone(start: Any, capsys: Any) -> None:
    with server(lambda body: (500, "dead", {}) if "Which flies" in str(body) else chosen("A")) as (url, _):
        code, summary = start(url, "arc_easy", "winogrande")

    assert code == 1
    assert (set(summary["scores"]), set(summary["failed"])) == ({"winogrande"}, {"arc_easy"})
    assert "suite s: not answered: arc_easy; arc_easy: http" in capsys.readouterr().err


def test_what_was_measured_before_keeps_its_place_after_a_server_went_silent(start: Any) -> None:
    with server(lambda body: chosen("A")) as (url, _):
        assert start(url, "winogrande")[0] == 0

    code, summary = start(url, "arc_easy", "winogrande", "web_questions")

    assert code == 1
    assert (set(summary["scores"]), set(summary["failed"])) == ({"winogrande"}, {"arc_easy", "web_questions"})
    assert summary["failed"]["web_questions"] == "not asked, since arc_easy was not answered"


@pytest.mark.parametrize(("table", "line"), [("", "aspects: "), ("a = []", "aspects.a: names no benchmark")])
def test_suite_without_benchmarks_is_refused_in_one_line(tmp_path: Path, table: str, line: str, capsys: Any) -> None:
    (tmp_path / "s.toml").write_text(f'name = "s"\n[aspects]\n{table}\n')

    given = ["--suite", str(tmp_path / "s.toml"), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(["eval", "http://127.0.0.1:9/v1#m", *given]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
