"""What the frontier benchmark makes of its measurements."""

import json
from pathlib import Path

import pytest

from bench import frontier


def measured(iteration: int, kl: float, gold: float) -> frontier.Point:
    near = {"proxy": [kl, kl - 0.1, kl + 0.1], "win_rate": [0.7, 0.6, 0.8], "loss_change": [0.012, 0.01, 0.014]}
    return {"iteration": iteration, "kl": [kl, kl, kl], "gold": [gold, gold, gold], **near, "length": 20.0, "flags": ["length"]}


def written(path: Path, rows: list[tuple[float, float, frontier.Point]]) -> list[frontier.Run]:
    path.write_text("".join(json.dumps({"key": [kl, gamma, "validation"], "point": point}) + "\n" for kl, gamma, point in rows))
    return frontier.collected(path)


def test_collected_run_begun_twice_keeps_its_last_attempt(tmp_path: Path) -> None:
    rows = [(0.1, 0.5, measured(0, 0, 0)), (0.1, 0.5, measured(5, 3, 1)), (0.1, 0.0, measured(0, 0, 0)), (0.1, 0.5, measured(0, 0, 0))]
    runs = written(tmp_path / "runs.jsonl", [*rows, (0.1, 0.5, measured(5, 4, 2))])
    assert [(run.key.gamma, len(run.points)) for run in runs] == [(0.5, 2), (0.0, 1)]
    assert runs[0].points[-1]["kl"][0] == 4
    assert frontier.collected(tmp_path / "absent.jsonl") == []


def test_table_and_plot_of_an_over_optimised_run_say_where_gold_was_best(tmp_path: Path) -> None:
    points = [measured(0, 0.0, 0.0), measured(5, 4.0, 1.5), measured(10, 9.0, 0.25)]
    runs = written(tmp_path / "runs.jsonl", [(0.0, 0.0, point) for point in points])
    text = frontier.table(runs).splitlines()[1]
    for part in ("9.00", "+0.25", "0.700 [0.600, 0.800]", "+1.20% [+1.00%, +1.40%]", "+1.50 at 4.0 nats (iteration 5); now length"):
        assert part in text
    frontier.plot(runs, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_line_inputs_store_without_a_finished_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no results; a finished line is needed \(make run\)"):
        frontier.line_inputs(tmp_path)


def test_runs_of_other_settings_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    rows = [{"key": [0.1, 0.5, "validation", *more], "point": measured(1, kl, 0.2)} for more, kl in (((), 1.0), (("seed=11",), 2.0))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    runs = frontier.collected(path)

    assert [(run.key.settings, run.points[0]["kl"][0]) for run in runs] == [((), 1.0), (("seed=11",), 2.0)]
    assert [line.endswith("(seed=11)") for line in frontier.table(runs).splitlines()] == [False, False, True]
