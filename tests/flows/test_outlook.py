"""What ``modelyard check`` finds in a store and in MLflow: what is cached, what must be built, how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from flows.pipeline_config import PipelineConfig, load_pipeline
from modelyard.adapters.mlflow.server import tracking_uri
from modelyard.adapters.mlflow.tracker import Tracker
from modelyard.commands.app import main
from modelyard.config import Config
from modelyard.pretrain import import_model
from modelyard.pretrain.import_model import ImportConfig
from modelyard.store.manifest import Artifact
from tasks.line import Line, spec_of
from tasks.outlook import Row, outlook
from tests.unit import small_model


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config of a project that begins with a small model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    small_model.write(tmp_path, seq_len=512)
    assert main(["init", "project", "--start", "model", "--model", "hf"]) == 0
    return Path("project/modelyard.toml")


def rows(config: PipelineConfig) -> dict[str, Row]:
    return {row.stage: row for row in outlook(config).rows}


def imported(config: PipelineConfig) -> Artifact:
    """The imported model, built into the config's store by the stage's own function."""
    line = Line(config)

    def produce(out: Path, checkpoints: Path) -> Mapping[str, float]:
        table: Config | None = config.of("imported")
        assert isinstance(table, ImportConfig)
        return import_model.run(table, {}, out, checkpoints, config.execution, lambda *_, **__: None)

    return line.place.store.build(spec_of(line.planned("imported"), line.place), produce).artifact


def test_outlook_follows_store_and_record(project: Path) -> None:
    config = load_pipeline(str(project), [])
    before = rows(config)
    assert not any(row.cached for row in before.values())
    assert before["imported"].artifact, "what reads nothing is known before it is built"
    assert before["tokens"].artifact == ""
    assert before["imported"].seconds is None

    built = imported(config)
    Tracker(tracking_uri(), config.name).log(built, "link")
    after = rows(config)
    assert [name for name, row in after.items() if row.cached] == ["imported"]
    assert after["imported"].artifact == built.ref
    assert after["sft"].artifact == "", "reads the imported model, and tokens that are not built"

    changed = rows(load_pipeline(str(project), ["base.seq_len=300"]))["imported"]
    assert not changed.cached
    assert changed.artifact not in ("", built.ref)
    assert (changed.seconds, changed.changed) == (pytest.approx(built.seconds, abs=0.051), ("seq_len",))
