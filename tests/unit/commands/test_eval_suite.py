"""A suite on a real model and on servers that fail: what is asked, what is asked again after it was ended, and what keeps its place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelyard.commands.app import main
from modelyard.evals.methods import ask
from modelyard.execution import ExecutionConfig
from modelyard.model.subject import Subject
from tests.unit import edited
from tests.unit.commands.evaluated import chatting, data, directory
from tests.unit.completions_server import scripted, serving
from tests.unit.evals import limitation_sets
from tests.unit.evals.test_suite_and_exams import ROOT, write_kinds
from tests.unit.model.test_endpoint import chosen, server

__all__ = ["chatting", "data", "directory"]
EXECUTION = ExecutionConfig(threads=1)


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


def test_suite_fathom_chat_asks_a_chat_only_server_one_item_of_each_kind(
    chatting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("modelyard.model.endpoint.WORKERS", 1)
    write_kinds(tmp_path)
    given = ["--suite", str(ROOT / "configs/evals/fathom-chat.toml"), "--data", str(tmp_path), "--max-new-tokens", "3", "--threads", "1"]
    local, served = tmp_path / "local", tmp_path / "served"

    assert main(["eval", str(chatting), *given, "--isolation", "available", "--out", str(local)]) == 0
    with serving(Subject.open("x", chatting, EXECUTION, 4), only="chat/completions") as base:
        assert main(["eval", f"{base}#tiny", *given, "--isolation", "available", "--out", str(served)]) == 0

    ours, theirs = (json.loads((out / "suite.json").read_text()) for out in (local, served))
    assert set(ours["scores"]) == {"arc_easy", "winogrande", "lambada_word", "web_questions", "gsm8k_cot", "human_eval"}
    assert ours["scores"] == theirs["scores"]
    assert all("missing data" in reason for reason in ours["missing"].values())
    for name in ours["scores"]:
        (record,), (other,) = ([json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()] for out in (local, served))
        assert record["prompt"].startswith("[user] ")
        assert record["prompt"].endswith("\n[assistant]:")
        assert json.loads(other["prompt"])[0]["role"] == "user"
        assert record["output"] == other["output"]
        assert record["choice"] == -1, "no likelihoods"


def test_suite_conversation_has_both_turns_rated(chatting: Path, tmp_path: Path) -> None:
    (tmp_path / "mt_bench").mkdir()
    rows = [{"question_id": n, "category": "writing", "turns": [f"Who bakes {n} loaves?", "And who sails?"]} for n in range(2)]
    (tmp_path / "mt_bench" / "question.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [
        "--suite",
        str(ROOT / "configs/evals/conversation.toml"),
        "--data",
        str(tmp_path),
        "--threads",
        "1",
        "--out",
        str(tmp_path / "o"),
    ]

    with scripted(lambda said: ("Rating: [[9]]" if "And who sails?" in said else "Rating: [[5]]", "stop")) as base:
        assert main(["eval", str(chatting), *given, "--max-new-tokens", "4", "--judge", f"{base}#j", "--judge-chat", "--limit", "1"]) == 0

    scores = json.loads((tmp_path / "o" / "suite.json").read_text())["scores"]
    assert {name: one["value"] for name, one in scores.items()} == {"mt_bench": 0.5, "mt_bench_turns": pytest.approx(0.7)}
    (record,) = map(json.loads, (tmp_path / "o" / "mt_bench_turns.jsonl").read_text().splitlines())
    assert (record["values"]["rating_1"], record["values"]["rating_2"]) == (0.5, 0.9)
    assert record["prompt"].count("[user]") == 2


def test_suite_of_the_report_asks_a_small_model_in_every_language_there_is(directory: Path, tmp_path: Path) -> None:
    limitation_sets.translated(tmp_path)
    shutil.rmtree(tmp_path / "mmlu_translated" / "test")  # MMMLU's, which has no examples
    given = ["--suite", str(ROOT / "configs/evals/gpt4-report.toml"), "--data", str(tmp_path), "--threads", "1", "--limit", "2"]

    assert main(["eval", str(directory / "hf"), *given, "--out", str(tmp_path / "o")]) == 0

    assert set(json.loads((tmp_path / "o" / "suite.json").read_text())["scores"]) == {"mmlu_translated"}
    groups = json.loads((tmp_path / "o" / "mmlu_translated.metrics.json").read_text())["groups"]
    assert {"de", "sw"} <= set(groups), "figure 5 is by language"


def test_suite_that_was_killed_asks_only_what_is_left(directory, data, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "s.toml").write_text('name = "s"\n[aspects]\na = ["arc_easy", "lambada"]\nb = ["mmlu"]\n[shots]\nmmlu = 2\n')
    out, asked = tmp_path / "out", []

    def killed(model: Any, benchmark: Any, helpers: Any) -> list[Any]:
        if benchmark.name == "mmlu":
            raise OSError(28, "No space left on device")
        return counted(model, benchmark, helpers)

    def counted(model: Any, benchmark: Any, helpers: Any) -> list[Any]:
        asked.append(benchmark.name)
        return ask(model, benchmark, helpers)

    def started(*more: str) -> int:
        asked.clear()
        given = ["--suite", str(tmp_path / "s.toml"), "--data", str(data), "--threads", "1", "--out", str(out), *more]
        return main(["eval", str(directory / "hf"), *given])

    def run_suite(*more: str) -> tuple[list[str], dict[str, Any], str]:
        assert started(*more) == 0
        return asked[:], json.loads((out / "suite.json").read_text()), capsys.readouterr().out

    monkeypatch.setattr("modelyard.commands.evaluate.ask", killed)
    assert started() == 1
    assert asked == ["arc_easy", "lambada"]
    monkeypatch.setattr("modelyard.commands.evaluate.ask", counted)
    resumed, scores, said = run_suite()
    assert resumed == ["mmlu"]
    assert said.count("answered before by the same weights") == 2
    again, same, _ = run_suite()
    assert (again, same) == ([], scores)

    lines = (out / "lambada.jsonl").read_text().splitlines(keepends=True)
    (out / "lambada.jsonl").write_text("".join(lines[:-1]))
    assert run_suite()[0] == ["lambada"], "a file that lacks an item is no measurement"
    (out / "lambada.jsonl").write_text("".join(lines)[:-20])
    assert run_suite()[0] == ["lambada"], "nor is one that was broken off"
    assert run_suite("--limit", "2")[0] == ["arc_easy", "lambada", "mmlu"], "other items"
    assert run_suite("--limit", "2", "--screen")[0] == ["arc_easy", "lambada", "mmlu"], "other settings"
    assert run_suite("--limit", "2", "--precision", "bf16")[0] == ["arc_easy", "lambada", "mmlu"], "and others"
    assert run_suite("--limit", "2", "--screen")[0] == ["arc_easy", "lambada", "mmlu"]
    other = json.loads((out / "mmlu.metrics.json").read_text())
    (out / "mmlu.metrics.json").write_text(json.dumps({**other, "weights": "f" * 64}))
    assert run_suite("--limit", "2", "--screen")[0] == ["mmlu"], "other weights"


def test_suite_is_asked_anew_of_weights_that_are_read_otherwise(directory, data, tmp_path, monkeypatch) -> None:
    (tmp_path / "s.toml").write_text('name = "s"\n[aspects]\na = ["lambada"]\n')
    asked = list[str]()
    monkeypatch.setattr(
        "modelyard.commands.evaluate.ask", lambda model, one, helpers: [asked.append(one.name), ask(model, one, helpers)][1]
    )
    shutil.copytree(directory / "hf", tmp_path / "hf")

    def is_asked_anew() -> bool:
        asked.clear()
        given = ["--suite", str(tmp_path / "s.toml"), "--data", str(data), "--threads", "1", "--out", str(tmp_path / "out")]
        assert main(["eval", str(tmp_path / "hf"), *given]) == 0
        return bool(asked)

    assert is_asked_anew()
    for edit in edited.OTHERWISE:
        edit(tmp_path / "hf")
        assert is_asked_anew(), edit.__name__
    for edit in edited.ALIKE:
        edit(tmp_path / "hf")
        assert not is_asked_anew(), edit.__name__


def test_suite_whose_server_dies_failed_keeps_what_was_measured_and_asks_the_rest_when_started_again(
    chatting: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("modelyard.model.endpoint.WORKERS", 1)
    monkeypatch.setattr("modelyard.model.completions_client.ended_within", lambda ended, seconds: False)
    suite, out = tmp_path / "s.toml", tmp_path / "out"
    aspects = '[aspects]\na = ["arc_easy", "gsm8k"]\nb = ["mmlu", "mmlu_letter"]\n[shots]\nmmlu = 1\nmmlu_letter = 1\n'
    suite.write_text(f'name = "s"\nchat = true\nchoose_by = "letter"\n{aspects}')
    given = ["--suite", str(suite), "--data", str(data), "--max-new-tokens", "3", "--limit", "2", "--sample-seed", "5", "--out", str(out)]
    answered = iter(range(3))  # arc_easy, and one item of mmlu

    def reply(said: str) -> tuple[str, str]:
        if next(answered, None) is None:
            raise ConnectionResetError
        return "A", "stop"

    with scripted(reply) as base:
        assert main(["eval", f"{base}#m", *given]) == 1
        summary = json.loads((out / "suite.json").read_text())
        said = capsys.readouterr()
        answered = iter(range(3))  # the other item of mmlu, and mmlu_letter
        assert main(["eval", f"{base}#m", *given]) == 0

    assert set(summary["scores"]) == {"arc_easy"}
    assert summary["missing"]["gsm8k"].startswith("missing data")
    assert set(summary["failed"]) == {"mmlu", "mmlu_letter"}
    assert summary["sample"] == {"limit": 2, "seed": 5}
    assert "suite s: not answered: mmlu, mmlu_letter; mmlu: http" in said.err
    assert set(json.loads((out / "suite.json").read_text())["scores"]) == {"arc_easy", "mmlu", "mmlu_letter"}
    assert not list(out.glob("*.replies"))


def test_suite_of_which_nothing_is_there_is_bad_input(directory: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "s.toml").write_text('name = "s"\n[aspects]\na = ["gsm8k"]\n')

    code = main(
        ["eval", str(directory / "hf"), "--suite", str(tmp_path / "s.toml"), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    )

    assert code == 2
    assert "suite s: nothing was measured; gsm8k: missing data" in capsys.readouterr().err
