"""The tracker against a real MLflow on SQLite."""

from pathlib import Path

import pytest

from modelyard.adapters.mlflow_tracker import Tracker, flatten
from modelyard.artifacts import Artifact, Spec
from modelyard.config import Config


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
        metrics={"pretrain/validation/loss": 3.5},
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
            run.report(step, 3, {"pretrain/train/loss": 5.0 - step})
    tracker.log(artifact(), "file:///store/base/x", {"figures/loss.png": figure})

    (found,) = runs(tracker)
    assert found.info.status == "FINISHED"
    assert found.data.params["inner.lr"] == "0.0003"
    assert found.data.metrics["pretrain/validation/loss"] == 3.5
    assert found.data.tags["fingerprint"] == SPEC.fingerprint
    assert found.data.tags["store"] == "file:///store/base/x"
    curve = tracker.client.get_metric_history(found.info.run_id, "pretrain/train/loss")
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


def test_tracker_forecast_is_sealed_once(tracker: Tracker) -> None:
    run_id = tracker.seal(artifact(), "link", {"prediction": 3.1})
    sealed_at = tracker.client.get_run(run_id).data.tags["sealed_at"]

    tracker.seal(artifact(), "link", {"prediction": 9.9})

    assert tracker.client.get_run(run_id).data.tags["sealed_at"] == sealed_at
    import mlflow

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
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": "x"}) == {"a.b": "1", "a.c": "[1, 2]", "d": "x"}
