"""The page of versions compares equal benchmark ids only, from the command's metrics, analyses and results artifacts alike."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.commands.app import main
from modelyard.formats.results import Measured, Results
from modelyard.release.card import evolution
from modelyard.stats.estimate import Estimate
from tests.unit.release.evidence import write_results


def write(directory: Path, score: float, identity: str = "1") -> Path:
    directory.mkdir()
    metric = {"value": score, "stderr": 0.01, "low": score - 0.02, "high": score + 0.02, "n": 100}
    content = {"benchmark": "arc_easy", "benchmark_id": identity, "metrics": {"acc": metric}}
    (directory / "arc_easy.metrics.json").write_text(json.dumps(content))
    return directory


def test_page_shows_each_steps_change_and_compares_no_other_ids(tmp_path: Path) -> None:
    sources = {"base": write(tmp_path / "a", 0.5), "sft": write(tmp_path / "b", 0.6, "2"), "policy": write(tmp_path / "c", 0.45)}
    versions = [evolution.read(evolution.Source(path))[0] for path in sources.values()]

    (row,) = evolution.evolution(versions)

    assert [cell.change for cell in row.cells] == [None, None, pytest.approx(-0.05)]
    assert row.cells[1].text == "-"
    assert main(["page", str(tmp_path / "out.html"), *(f"{label}={path}" for label, path in sources.items())]) == 0
    html = (tmp_path / "out.html").read_text()
    assert "0.4500 [0.4300, 0.4700]" in html
    assert "-0.0500" in html
    assert html.count("<svg") == 1


def test_page_has_a_row_for_every_number_of_tries(tmp_path: Path) -> None:
    one = {"value": 0.4, "stderr": None, "low": None, "high": None, "n": 9}
    metrics = {"pass_at_1": one, "pass_at_10": one | {"value": 0.7}, "parsed": one}
    (tmp_path / "code.metrics.json").write_text(json.dumps({"benchmark": "code", "benchmark_id": "1", "metrics": metrics}))
    found, _ = evolution.read(evolution.Source(tmp_path))
    assert {row: score.estimate.value for row, score in found.items()} == {"code": 0.4, "code at 10": 0.7}


def test_page_reads_the_results_of_a_line_and_analyses(tmp_path: Path) -> None:
    write_results(tmp_path / "results", {"policy": "p"}, 50)
    (tmp_path / "analysis").mkdir()
    one = {"value": 0.4, "stderr": None, "low": None, "high": None, "n": 1}
    spread = {"lowest": 0.4, "highest": 0.4, "deviation": 0.0}
    content = {"analysis": "shots", "benchmark": "mmlu", "scores": {"0 shots": one}, "spread": spread}
    (tmp_path / "analysis" / "shots-analysis.json").write_text(json.dumps(content))

    html = evolution.render({"v1": evolution.Source(tmp_path / "results"), "what if": evolution.Source(tmp_path / "analysis")})

    assert "last_word (acc)" in html
    assert "shots: mmlu (what if)" in html
    assert html.count("<svg") == 1


def test_page_of_a_directory_without_results_is_one_line(tmp_path: Path, capsys: Any) -> None:
    assert main(["page", str(tmp_path / "out.html"), f"x={tmp_path}"]) == 2

    assert f"{tmp_path}: no results.json, no *.metrics.json and no *analysis.json\n" in capsys.readouterr().err


def test_page_of_a_lines_results_alone_is_the_chain_of_its_models(tmp_path: Path, capsys: Any) -> None:
    write_results(tmp_path / "old", {"policy": "o"}, 50)
    write_results(tmp_path / "new", {"policy": "p", "base": "b", "sft": "s"}, 50)
    measured = json.loads((tmp_path / "new" / "results.json").read_text())
    measured |= {f"evals/{model}/last_word/acc": measured["evals/policy/last_word/acc"] for model in ("base", "sft")}
    (tmp_path / "new" / "results.json").write_text(json.dumps(measured))
    out = tmp_path / "out.html"

    assert main(["page", str(out), str(tmp_path / "new")]) == 0
    html = out.read_text()
    assert html.index(">base</th>") < html.index(">sft</th>") < html.index(">policy</th>")
    assert html.count("<svg") == html.count("<figcaption>") == 2

    assert main(["page", str(out), f"v1={tmp_path / 'old'}", f"v2={tmp_path / 'new'}#sft", f"v3={tmp_path / 'new'}"]) == 0
    assert all(f">v{n}</th>" in out.read_text() for n in (1, 2, 3))
    assert out.read_text().count("<svg") == 2

    for argument, line in (
        (f"x={tmp_path / 'old'}#sft", "has no model 'sft'; it has policy"),
        (str(tmp_path), "other results need a label"),
        ("=x", "expected LABEL=DIRECTORY"),
    ):
        assert main(["page", str(out), argument]) == 2
        assert line in capsys.readouterr().err
    assert main(["page", str(out), str(tmp_path / "new"), str(tmp_path / "old")]) == 2
    assert "'policy' is the label of two versions" in capsys.readouterr().err


def test_chain_shows_what_many_tries_give_beside_what_one_gives() -> None:
    shares = {"base": (0.05, 0.6), "sft": (0.3, 0.95), "policy": (0.8, 0.9)}
    metrics = {
        f"evals/{model}/answers/{metric}": Estimate(value, value - 0.02, value + 0.02, 100)
        for model, pair in shares.items()
        for metric, value in zip(("pass_at_1", "pass_at_100"), pair, strict=True)
    }
    measured = {"answers": Measured(id="a", metrics=("pass_at_1", "pass_at_10", "pass_at_100"))}
    results = Results(metrics, {}, measured, {})
    one, hundred = evolution.evolution([evolution.of_results(results, model) for model in shares])
    assert (one.name, hundred.name) == ("answers", "answers at 100")
    assert [cell.change for cell in one.cells] == [None, pytest.approx(0.25), pytest.approx(0.5)]
    assert [cell.change for cell in hundred.cells] == [None, pytest.approx(0.35), pytest.approx(-0.05)]
