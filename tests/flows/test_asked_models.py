"""A registered model that a line asks is fetched before its ranks begin."""

import os
import shutil
from pathlib import Path

import pytest

from flows.pipeline_config import load_pipeline
from modelyard.adapters.mlflow.server import client, experiment_id
from modelyard.execution import ExecutionConfig
from modelyard.judges.open_judge import open_elsewhere
from modelyard.model.subject import Subject
from modelyard.store.manifest import Spec
from tasks import asked_models
from tasks.asked_models import fetch_asked, require_asked, require_teachers_vocabulary
from tasks.line import Line
from tasks.missing import missing
from tests.unit import small_model

TAUGHT, DISTILLED = (str(Path(__file__).parents[2] / "configs" / "pipeline" / f"tiny-{name}.toml") for name in ("taught", "opd"))


def test_teacher_of_the_registry_becomes_a_directory_of_the_weights_that_the_config_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model.write(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    server = client(uri)
    created = server.create_run(experiment_id(server, uri, "big"))
    server.log_artifacts(created.info.run_id, str(tmp_path / "hf"), "model")
    server.create_registered_model("big")
    server.create_model_version("big", source=f"{created.info.artifact_uri}/model", run_id=created.info.run_id)

    execution = ExecutionConfig(threads=1)
    weights = Subject.open("x", tmp_path / "hf", execution, 4).weights
    as_directory = ["instructions.teacher.kind=directory", "instructions.teacher.model=", f"instructions.teacher.weights={weights[:16]}"]
    config = load_pipeline(TAUGHT, as_directory)
    monkeypatch.setenv("MODELYARD_TEACHER", "models:/big/1")
    fetch_asked(config)
    assert Path(os.environ["MODELYARD_TEACHER"]).is_relative_to(tmp_path / "home")
    assert open_elsewhere(config.instructions.teacher, execution).weights == weights

    monkeypatch.setenv("MODELYARD_TEACHER", "models:/big/1")
    with pytest.raises(ValueError, match=f"its weights are {weights[:16]}, not teacher.weights 00000000"):
        fetch_asked(load_pipeline(DISTILLED, []))

    monkeypatch.setenv("MODELYARD_TEACHER", str(tmp_path / "hf"))
    other = [one for one in missing(load_pipeline(DISTILLED, [])).others if "teacher" in one]
    assert other == [f"{tmp_path / 'hf'}: its weights are {weights[:16]}, not teacher.weights 00000000"]
    with pytest.raises(ValueError, match=r"not teacher\.weights 00000000"):
        fetch_asked(load_pipeline(DISTILLED, []))
    assert not [one for one in missing(load_pipeline(DISTILLED, [f"policy.teacher.weights={weights}"])).others if "teacher" in one]

    monkeypatch.setenv("MODELYARD_TEACHER", "models:/big/2")
    with pytest.raises(ValueError, match="models:/big/2: not found at"):
        fetch_asked(config)
    monkeypatch.setenv("MODELYARD_TEACHER", "http://127.0.0.1:9/v1")
    fetch_asked(load_pipeline(TAUGHT, []))
    assert os.environ["MODELYARD_TEACHER"] == "http://127.0.0.1:9/v1"

    with pytest.raises(ValueError, match=r"^teacher\.kind 'directory': MODELYARD_TEACHER 'http://127\.0\.0\.1:9/v1' is a server; name a"):
        fetch_asked(load_pipeline(DISTILLED, []))
    monkeypatch.setenv("MODELYARD_TEACHER", str(tmp_path / "nowhere"))
    assert [one for one in missing(load_pipeline(TAUGHT, [])).others if "is no server's http://host:port/v1" in one]
    with pytest.raises(ValueError, match="nowhere: neither a model directory"):
        fetch_asked(load_pipeline(DISTILLED, []))
    monkeypatch.setenv("RAY_ADDRESS", "ray://elsewhere:10001")
    assert not [one for one in missing(load_pipeline(DISTILLED, [])).others if "nowhere" in one]


@pytest.mark.parametrize(("path", "stage", "kind"), [(DISTILLED, "policy", "directory"), (TAUGHT, "instructions", "endpoint")])
def test_line_that_asks_a_model_nobody_told_it_of_is_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, stage: str, kind: str
) -> None:
    monkeypatch.delenv("MODELYARD_TEACHER", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^{stage}: teacher.kind '{kind}': the environment variable MODELYARD_TEACHER must say where"):
        require_asked(load_pipeline(path, []))
    monkeypatch.setattr(asked_models, "looked_up", lambda line: [(name, "", True) for name in line.order])
    require_asked(load_pipeline(path, []))  # a store that has every stage asks nobody


def test_teacher_of_another_vocabulary_is_refused_once_the_lines_own_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for root, texts in ((ours, ["the wine-dark sea"]), (theirs, ["other words were counted here"])):
        root.mkdir()
        small_model.write(root, texts)
    monkeypatch.chdir(tmp_path)
    line = Line(load_pipeline(DISTILLED, [f"execution.store=file://{tmp_path}/store", f"execution.scratch={tmp_path}/scratch"]))
    spec = Spec("tokens", line.config.of("tokens"), {}, "code")

    def made(out: Path, work: Path) -> dict[str, float]:
        shutil.copytree(ours / "tokens", out, dirs_exist_ok=True)
        return {}

    line.built["tokens"] = line.place.store.build(spec, made)
    monkeypatch.setenv("MODELYARD_TEACHER", str(ours / "hf"))
    require_teachers_vocabulary(line)
    monkeypatch.setenv("MODELYARD_TEACHER", str(theirs / "hf"))
    with pytest.raises(ValueError, match=r"^policy\.teacher: its vocabulary is not the line's \(\d+ of \d+ tokens differ"):
        require_teachers_vocabulary(line)
    monkeypatch.setattr(asked_models, "looked_up", lambda line: [("policy", "", True)])
    require_teachers_vocabulary(line)  # its policy is there
