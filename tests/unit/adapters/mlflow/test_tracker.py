"""The tracker against a real MLflow on SQLite."""

import logging
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from modelyard.adapters.mlflow.curves import AWAY_SECONDS, FLUSH_SECONDS, LiveRun
from modelyard.adapters.mlflow.server import client
from modelyard.adapters.mlflow.tracker import PARENT, Tracker, flatten
from modelyard.config import Config
from modelyard.store.manifest import Artifact, Spec


class Inner(Config):
    lr: float


class Recipe(Config):
    seed: int
    inner: Inner


SPEC = Spec("base", Recipe(seed=3, inner=Inner(lr=3e-4)), {}, "code-1")


@pytest.fixture
def tracker(uri: str, request: pytest.FixtureRequest) -> Tracker:
    return Tracker(uri, request.node.name)


def artifact(spec: Spec = SPEC) -> Artifact:
    return Artifact(
        name=spec.name,
        version=spec.version,
        fingerprint=spec.fingerprint,
        parents={"tokens": "tokens/abc"},
        config=spec.config.model_dump(mode="json"),
        code=spec.code,
        metrics={"base/validation/loss": 3.5},
        files={},
        seconds=2.0,
    )


def runs(tracker: Tracker) -> list:
    return list(tracker.client.search_runs([tracker.experiment]))


def test_tracker_artifact_becomes_one_run_with_everything(tracker: Tracker, tmp_path: Path) -> None:
    figure = tmp_path / "loss.png"
    figure.write_bytes(b"png")

    with tracker.live(SPEC) as run:
        for step in range(3):
            run.report(step, 3, {"base/train/loss": 5.0 - step})
    tracker.log(artifact(), "file:///store/base/x", {"figures/loss.png": figure})

    (found,) = runs(tracker)
    assert found.info.status == "FINISHED"
    assert found.data.params["inner.lr"] == "0.0003"
    assert found.data.metrics["base/validation/loss"] == 3.5
    assert found.data.tags["fingerprint"] == SPEC.fingerprint
    assert found.data.tags["store"] == "file:///store/base/x"
    curve = tracker.client.get_metric_history(found.info.run_id, "base/train/loss")
    assert [(m.step, m.value) for m in curve] == [(0, 5.0), (1, 4.0), (2, 3.0)]
    assert [f.path for f in tracker.client.list_artifacts(found.info.run_id, "figures")] == ["figures/loss.png"]


def test_tracker_cached_artifact_adds_no_run(tracker: Tracker) -> None:
    first = tracker.log(artifact(), "link")

    assert tracker.log(artifact(), "link") == first
    assert len(runs(tracker)) == 1


def test_tracker_cut_off_work_goes_on_in_its_run(tracker: Tracker) -> None:
    def cut_off() -> None:
        with tracker.live(SPEC) as run:
            run.report(1, 3, {"loss": 1.0})
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        cut_off()
    assert runs(tracker)[0].info.status == "FAILED"

    with tracker.live(SPEC) as run:
        run.report(2, 3, {"loss": 0.5})
    tracker.log(artifact(), "link")

    (found,) = runs(tracker)
    assert found.info.status == "FINISHED"
    assert [m.step for m in tracker.client.get_metric_history(found.info.run_id, "loss")] == [1, 2]


def test_line_runs_have_stages_as_children_found_ones_link_to_the_run_that_built_them(tracker: Tracker, tmp_path: Path) -> None:
    def stage(made: bool) -> None:
        if made:
            with tracker.live(SPEC):
                pass
        tracker.record(artifact(), f"file:///store/{artifact().ref}", lambda _: tmp_path)

    def held() -> None:
        stage(made=False)
        raise RuntimeError("HOLD: it is no better")

    with tracker.line_run("tiny", {"seed": 3}):
        stage(made=True)
    with pytest.raises(RuntimeError, match="HOLD"), tracker.line_run("tiny", {"seed": 3}):
        held()

    second, first = (run for run in runs(tracker) if run.data.tags.get("line") == "tiny")
    assert (first.info.status, second.info.status) == ("FINISHED", "FAILED")
    assert first.data.params == {"seed": "3"}
    assert second.data.tags["error"] == "RuntimeError: HOLD: it is no better"
    assert first.data.metrics == second.data.metrics == {"base/validation/loss": 3.5}
    children = {run.data.tags[PARENT]: run for run in runs(tracker) if PARENT in run.data.tags}
    built, found = children[first.info.run_id], children[second.info.run_id]
    assert built.data.tags["fingerprint"] == SPEC.fingerprint
    assert found.data.tags["found"] == built.info.run_id
    assert found.info.run_name.endswith("(cached)")
    assert f"/runs/{built.info.run_id}" in found.data.tags["mlflow.note.content"]
    assert tracker.find(SPEC.fingerprint) == built.info.run_id
    assert len(runs(tracker)) == 4


def test_line_run_while_the_server_is_away_runs_its_stages(tracker: Tracker, away: str) -> None:
    tracker.client = client(away)
    worked = []
    with tracker.line_run("tiny", {}):
        worked.append(True)
    assert worked


def test_run_has_the_data_it_was_made_from_as_inputs_that_open(tracker: Tracker, tmp_path: Path) -> None:
    made = artifact()
    (tmp_path / "tokens/abc").mkdir(parents=True)
    run_id = tracker.log(made, f"file://{tmp_path}/{made.ref}")

    (used,) = tracker.client.get_run(run_id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("tokens", "abc")
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]
    source = mlflow.data.get_source(used)
    assert Path(source.load()) == tmp_path / "tokens/abc"


def test_live_run_has_mlflows_system_metrics(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    deadline = time.monotonic() + 60
    with tracker.live(SPEC) as run:
        while time.monotonic() < deadline and "system/cpu_utilization_percentage" not in tracker.client.get_run(run.run_id).data.metrics:
            time.sleep(0.1)
        run.report(1, 1, {"loss": 1.0})
    measured = tracker.client.get_run(run.run_id).data.metrics
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes", "loss"} <= set(measured)


def test_tracker_forecast_is_sealed_once(tracker: Tracker) -> None:
    run_id = tracker.seal(artifact(), "link", {"prediction": 3.1})
    sealed_at = tracker.client.get_run(run_id).data.tags["sealed_at"]

    tracker.seal(artifact(), "link", {"prediction": 9.9})

    assert tracker.client.get_run(run_id).data.tags["sealed_at"] == sealed_at
    assert mlflow.artifacts.load_dict(f"{tracker.client.get_run(run_id).info.artifact_uri}/forecast.json") == {"prediction": 3.1}


def test_tracker_block_shows_in_status_tag_and_note(tracker: Tracker) -> None:
    run_id = tracker.log(artifact(), "link")

    tracker.decision(run_id, "BLOCK", ["regression: worse"])

    found = tracker.client.get_run(run_id)
    assert (found.info.status, found.data.tags["decision"]) == ("FAILED", "BLOCK")
    assert "regression: worse" in found.data.tags["mlflow.note.content"]
    assert tracker.log(artifact(), "link") == run_id


def test_tracker_history_of_a_run_made_elsewhere_becomes_curves(tracker: Tracker, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')

    run_id = tracker.log(artifact(), "link", history=history)

    assert [m.value for m in tracker.client.get_metric_history(run_id, "loss")] == [2.0, 1.0]


def test_flatten_nested_config_has_dotted_keys() -> None:
    config = {"a": {"b": 1, "c": [1, 2]}, "d": "x", "e": [{"f": 1}, {"f": []}]}
    assert flatten(config) == {"a.b": "1", "a.c": "[1, 2]", "d": "x", "e.0.f": "1", "e.1.f": "[]"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a server that is not there."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_live_run_points_wait_for_a_server_that_is_away(tracker: Tracker, away: str, caplog: pytest.LogCaptureFixture) -> None:
    with tracker.live(SPEC) as begun:
        run_id = begun.run_id
    clock = Clock()
    run = LiveRun(client(away), run_id, clock)

    with caplog.at_level(logging.WARNING, "modelyard"):
        for step in range(5):
            clock.now += FLUSH_SECONDS + 0.1
            run.report(step, 5, {"loss": float(step)})
    assert len(caplog.records) == 1, "it is left alone for a while"
    run.client = tracker.client
    clock.now += AWAY_SECONDS
    run.report(5, 5, {"loss": 5.0})

    assert [m.step for m in tracker.client.get_metric_history(run_id, "loss")] == [0, 1, 2, 3, 4, 5]


def test_stage_begun_and_ended_while_the_server_is_away_is_recorded_by_the_next_run(tracker: Tracker, away: str, tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (tmp_path / "report.html").write_text("page")
    there, tracker.client = tracker.client, client(away)
    with tracker.live(SPEC) as run:
        run.report(1, 1, {"loss": 2.0})
    with pytest.raises(ValueError, match="the stage's own error"):
        with tracker.live(SPEC):
            raise ValueError("the stage's own error")
    tracker.record(artifact(), "link", lambda _: tmp_path)
    assert tracker.page(SPEC.fingerprint) == ""
    tracker.client = there

    tracker.record(artifact(), "link", lambda _: tmp_path)

    (found,) = runs(tracker)
    assert found.info.status == "FINISHED"
    assert [m.value for m in there.get_metric_history(found.info.run_id, "loss")] == [2.0]
    assert [f.path for f in there.list_artifacts(found.info.run_id) if f.path.endswith("html")] == ["report.html"]
    assert tracker.page(SPEC.fingerprint).endswith(f"/#/experiments/{tracker.experiment}/runs/{found.info.run_id}")


def test_live_run_shows_pace_and_mfu(tracker: Tracker) -> None:
    clock = Clock()
    run = LiveRun(tracker.client, None, clock, flops_share=1e-4)
    run.report(0, 10_000, unit="token")
    clock.now += 4.0
    run.run_id = tracker.client.create_run(tracker.experiment).info.run_id
    run.report(8000, 10_000, {"loss": 1.0}, unit="token")
    run.flush()

    measured = tracker.client.get_run(run.run_id).data.metrics
    assert measured["system/tokens_per_second"] == 2000.0
    assert measured["system/mfu"] == pytest.approx(0.2)


def test_mlflow_reports_nothing_to_its_makers():
    """In a process of its own: within a test MLflow never would."""
    said = "from mlflow.telemetry.client import get_telemetry_client as client; from mlflow.telemetry.utils import is_telemetry_disabled as off"
    program = f"import modelyard.adapters.mlflow.tracker; {said}; print(off(), client())"
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    done = subprocess.run([sys.executable, "-c", program], env=plain, capture_output=True, text=True, check=True)
    assert done.stdout == "True None\n"


def test_forecast_sealed_after_the_run_it_forecasts_is_told_though_manifests_say_otherwise(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast = artifact(Spec("forecast", Recipe(seed=3, inner=Inner(lr=3e-4)), {}, "code-1"))
    base = artifact().model_copy(update={"started": forecast.finished})
    assert tracker.sealed_late(forecast, base) == ""
    tracker.seal(forecast, "store/forecast", {})
    assert tracker.sealed_late(forecast, base) == ""
    tracker.log(base, "store/base")
    assert tracker.sealed_late(forecast, base) == ""

    gmtime, after = time.gmtime, time.time() + 1000
    monkeypatch.setattr("time.gmtime", lambda: gmtime(after))
    late = artifact(Spec("forecast", Recipe(seed=4, inner=Inner(lr=3e-4)), {}, "code-1"))
    tracker.seal(late, "store/forecast", {})
    assert re.match(rf"{late.ref} was sealed \d+ s after the run of {base.ref} began", tracker.sealed_late(late, base))
