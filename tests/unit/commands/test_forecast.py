"""The command: what it writes, what it refuses, and how it does on the published ladder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from modelyard.commands.app import main

LADDER = Path(__file__).parents[3].parent / "shared" / "data" / "olmo_ladder" / "points.csv"
HEADER = "run,size,token_multiple,train_flops,train_tokens,val_loss"
SIZES = {"10M": 1e7, "30M": 3e7, "100M": 1e8, "300M": 3e8}
AT = ["--at", "1e20", "--at-tokens", "1.8e10", "--at-mix", "same"]
"""A run of the horizon 1x, which is 20 tokens a parameter."""
needs_ladder = pytest.mark.skipif(not LADDER.exists(), reason=f"no {LADDER}")


def loss(params: float, tokens: float) -> float:
    return 1.7 + 400 / params**0.34 + 410 / tokens**0.28


def rows(multiples: tuple[int, ...] = (1, 5)) -> list[str]:
    return [
        f"{size}-{m},{size},{m}x,{6 * n * 20 * m * n:.6g},{20 * m * n:.6g},{loss(n, 20 * m * n):.6f}"
        for size, n in SIZES.items()
        for m in multiples
    ]


def write(path: Path, lines: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


@pytest.fixture
def points(tmp_path: Path) -> Path:
    return write(tmp_path / "points.csv", rows())


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["forecast", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_command_one_horizon_writes_the_forecast_its_law_and_its_backtest(points: Path, tmp_path: Path, capsys) -> None:
    at = 6 * 1e9 * 5e9 * 20
    assert (
        main(
            [
                "forecast",
                str(points),
                "--fit",
                "token_multiple=5x",
                *AT,
                "--at",
                str(at),
                "--at-tokens",
                "1e11",
                "--json",
                str(tmp_path / "new" / "out.json"),
            ]
        )
        == 0
    )
    found = json.loads((tmp_path / "new" / "out.json").read_text())
    assert found["prediction"] == pytest.approx(found["a"] * at ** found["b"] + found["c"])
    assert found["low"] < found["prediction"] < found["high"]
    assert found["prediction"] == pytest.approx(loss(1e9, 1e11), rel=0.01)
    assert len(found["points"]) == 4
    assert abs(found["backtest"]["error"]) < 0.01
    assert "backtest: the largest run left out" in capsys.readouterr().out


def test_command_reads_any_order_of_rows_and_columns_other_separators_blank_and_comment_lines(points: Path, tmp_path: Path) -> None:
    with points.open() as file:
        records = list(csv.DictReader(file))
    columns = ["val_loss", "extra", "TRAIN_FLOPS", "token_multiple", "run"]
    lines = ["\ufeff# from elsewhere", ";".join(columns), ""]
    lines += [f" {r['val_loss']} ;;{r['train_flops']};{r['token_multiple']};{r['run']}" for r in reversed(records)]
    other = tmp_path / "other.csv"
    other.write_bytes("\r\n".join([*lines, "nan;;soon;9x;unfinished"]).encode())
    found = []
    for path in (points, other):
        assert main(["forecast", str(path), "--fit", "token_multiple=1x", *AT, "--json", str(tmp_path / "out.json")]) == 0
        found.append(json.loads((tmp_path / "out.json").read_text()))
    assert found[1].pop("warnings") == [
        "no column says how many tokens the runs saw: that the run to predict is of their horizon was not checked"
    ]
    assert found[0].pop("warnings") == []
    assert found[0] == found[1]


def test_command_several_values_of_a_column_are_alternatives_and_several_columns_must_hold(points: Path, tmp_path: Path) -> None:
    fit = ["size=10M", "size=30M", "size=100M", "token_multiple=1x"]
    assert main(["forecast", str(points), "--fit", *fit, *AT, "--allow-few", "--json", str(tmp_path / "out.json")]) == 0
    assert len(json.loads((tmp_path / "out.json").read_text())["points"]) == 3


def test_command_held_back_run_is_predicted_without_itself(points: Path, tmp_path: Path) -> None:
    five = write(tmp_path / "five.csv", [*rows((1,)), f"big,big,1x,1.2e20,2e10,{loss(1e9, 2e10)}"])
    assert main(["forecast", str(five), "--judge", "run=big", "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert "prediction" not in found
    assert len(found["points"]) == 4
    (judged,) = found["judged"]
    assert judged["run"] == "big"
    assert judged["error"] == pytest.approx(judged["predicted"] / loss(1e9, 2e10) - 1)
    assert abs(judged["error"]) < 0.005


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (AT, "several token horizons (token_multiple: 1x, 5x)"),
        (["--fit", "token_multiple=1x", "size=10M", *AT], "at least 4 runs of different compute, got 1"),
        (["--fit", "token_multiple=2x", *AT], "no run has token_multiple=2x (there are: 1x, 5x)"),
        (["--fit", "horizon=1x", *AT], "no column 'horizon' (its columns: run, size"),
        (["--fit", "token_multiple", *AT], "expected column=value"),
        (["--fit", "token_multiple=1x"], "say --at FLOPS"),
        (["--fit", "token_multiple=1x", *AT, "--at", "1e10", "--at-tokens", "1.8e5"], "not beyond the largest fitted run"),
        (["--joint", "--at", "1e20", "--at-mix", "same"], "--joint wants --at-tokens D"),
        (["--fit", "token_multiple=1x", "--at", "1e20", "--at-mix", "same"], "say --at-tokens D"),
        (["--fit", "token_multiple=1x", "--at", "1e20", "--at-tokens", "1.8e10"], "say --at-mix"),
        (["--joint", "--at-params", "1e9", "--at-tokens", "1e10"], "say --at-mix"),
        (["--fit", "token_multiple=1x", *AT, "--at-tokens", "9e10"], "sees 486 tokens a parameter, the fitted runs 20"),
        (["--fit", "token_multiple=1x", *AT, "--at-mix", "code"], "is of data mix 'code', the fitted runs of one that no column names"),
        (["--fit", "token_multiple=1x", *AT, "--json", "/proc/no/f.json"], "/proc/no: cannot be written to: No such file or directory"),
        (["--joint", "--fit", "token_multiple=1x", *AT], "at least 6 runs, got 4"),
    ],
)
def test_command_what_would_mean_nothing_is_one_line(points: Path, capsys, arguments: list[str], message: str) -> None:
    assert message in refused(capsys, points, *arguments)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bad,1B,1x,1e20,1.8e10,nan", "line 6, column val_loss: nan is not a positive finite number"),
        ("bad,1B,1x,much,1e10,3.0", "line 6, column train_flops: 'much' is not a number"),
        ("bad,1B,1x,1e20,3.0", "line 6: 5 cells, but the header has 6"),
        ("bad,1B,1x,,1e10,3.0", "line 6, column train_flops: '' is not a number"),
    ],
)
def test_command_bad_cell_is_named_by_file_line_and_column(tmp_path: Path, capsys, line: str, message: str) -> None:
    path = write(tmp_path / "points.csv", [*rows((1,)), line])
    assert f"{path}, {message}" in refused(capsys, path, *AT, "--at", "1e21", "--at-tokens", "5.8e10")


@pytest.mark.parametrize(("flag", "value"), [("--noise", "nan"), ("--noise", "inf"), ("--at", "0"), ("--at-tokens", "-1")])
def test_command_number_that_no_run_has_is_refused(points: Path, capsys, flag: str, value: str) -> None:
    assert f"'{flag}': must lie between 0 and inf, got {value}" in refused(capsys, points, flag, value)


def test_command_file_that_is_none_is_named(tmp_path: Path, capsys) -> None:
    assert "nowhere.csv: cannot be read: No such file" in refused(capsys, tmp_path / "nowhere.csv", "--at", "1")
    assert "no runs in it" in refused(capsys, write(tmp_path / "empty.csv", []), "--at", "1")
    other = write(tmp_path / "other.csv", rows(), "run,size,token_multiple,train_flops,train_tokens,score")
    assert "no column could be the loss; name it with --loss-column" in refused(capsys, other, *AT, "--fit", "token_multiple=1x")


def test_command_changed_data_mix_is_refused_unless_told(tmp_path: Path, capsys) -> None:
    lines = [f"{line},{'web' if k else 'books'}" for k, line in enumerate(rows((1,)))]
    path = write(tmp_path / "points.csv", lines, f"{HEADER},data_mix")
    assert "the runs differ in data_mix (books, web)" in refused(capsys, path, *AT)
    assert main(["forecast", str(path), *AT, "--allow-changed-mix"]) == 0
    assert "warning: the runs differ in data_mix" in capsys.readouterr().out
    web = write(tmp_path / "web.csv", [f"{line},web" for line in rows((1,))], f"{HEADER},data_mix")
    assert main(["forecast", str(web), *AT, "--at-mix", "web"]) == 0
    assert "is of data mix 'books', the fitted runs of web" in refused(capsys, web, *AT, "--at-mix", "books")
    assert "'same' or its label (here: web)" in refused(capsys, web, "--at", "1e20", "--at-tokens", "1.8e10")


def test_command_mixed_horizons_are_found_without_a_column_for_them(tmp_path: Path, capsys) -> None:
    path = write(
        tmp_path / "points.csv", [",".join(line.split(",")[3:]) for line in [*rows((1,)), rows((5,))[0]]], "train_flops,train_tokens,loss"
    )
    assert "several token horizons (20 to 100 tokens a parameter)" in refused(capsys, path, *AT)
    assert main(["forecast", str(path), *AT, "--allow-mixed-horizons"]) == 0


@needs_ladder
def test_joint_fit_of_the_published_ladder_up_to_760m_predicts_every_1b_run(tmp_path: Path) -> None:
    assert main(["forecast", str(LADDER), "--joint", "--judge", "size=1B", "--json", str(tmp_path / "out.json")]) == 0
    judged = json.loads((tmp_path / "out.json").read_text())["judged"]
    assert len(judged) == 5
    for run in judged:
        assert abs(run["error"]) <= 0.015, run
        assert run["inside"], run
        assert run["high"] - run["low"] <= 0.06 * run["measured"], run  # covering is no merit of an interval that excludes nothing


@needs_ladder
@pytest.mark.parametrize("multiple", ["0.5xC", "1xC", "2xC", "5xC", "10xC"])
def test_compute_fit_of_the_published_ladder_predicts_1b_from_three_sizes(tmp_path: Path, multiple: str) -> None:
    fit = [str(LADDER), "--fit", f"token_multiple={multiple}", "--json", str(tmp_path / "out.json")]
    assert main(["forecast", *fit, "--judge", "size=1B", "--allow-few"]) == 0
    (judged,) = json.loads((tmp_path / "out.json").read_text())["judged"]
    assert abs(judged["error"]) <= 0.01
    assert judged["inside"]
