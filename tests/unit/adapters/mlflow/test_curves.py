"""Curves of a run that a server saw in part, completed from what its artifact holds. Real MLflow on SQLite."""

import json
from pathlib import Path

import pytest

from modelyard.adapters.mlflow.tracker import Tracker
from tests.unit.adapters.mlflow.test_tracker import SPEC, artifact


@pytest.fixture
def tracker(uri: str, request: pytest.FixtureRequest) -> Tracker:
    return Tracker(uri, request.node.name)


@pytest.mark.parametrize("unit", [1, 4096])
def test_curve_whose_end_the_server_never_got_is_completed_from_the_history(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: int
) -> None:
    rows = [{"step": step, "loss": 10.0 / step, "lr": 0.5} for step in (1, 10, 20, 30)]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with tracker.live(SPEC) as run:
        for row in rows:
            run.report(row["step"] * unit, 30 * unit, {key: row[key] for key in ("loss", "lr")})
            if row["step"] == 10:
                run.flush()
        monkeypatch.setattr(run, "flush", lambda: None)  # as if nobody answered at the end

    tracker.record(artifact(), "link", lambda _: tmp_path)

    for key in ("loss", "lr"):
        points = tracker.client.get_metric_history(run.run_id, key)
        assert sorted((point.step, point.value) for point in points) == [(row["step"] * unit, row[key]) for row in rows]


def test_curve_that_is_shown_on_an_axis_nobody_knows_is_left_alone(tracker: Tracker, tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"step": 3, "loss": 1.0}\n')
    with tracker.live(SPEC) as run:
        run.report(4096, 8192, {"loss": 2.0})

    tracker.record(artifact(), "link", lambda _: tmp_path)

    assert [point.step for point in tracker.client.get_metric_history(run.run_id, "loss")] == [4096]
