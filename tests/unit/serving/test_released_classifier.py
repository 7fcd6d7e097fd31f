"""A released version is served with the content classifier that its release was judged with, and not without it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from modelyard.commands.served_filter import filter_of
from modelyard.config import Config
from modelyard.data.filters.abuse_labels import LabelsConfig
from modelyard.data.harms import gather
from modelyard.execution import ExecutionConfig
from modelyard.posttrain.content_classifier import features, train
from modelyard.posttrain.content_classifier.features import FeaturesConfig
from modelyard.posttrain.content_classifier.heads import HeadsConfig
from modelyard.posttrain.content_classifier.train import ContentClassifierConfig
from modelyard.progress import silent
from modelyard.serving.content_filter import Held
from modelyard.store.artifacts import Store
from modelyard.store.manifest import Artifact, Spec
from tests.unit import small_model
from tests.worlds.imported import harms

pytestmark = pytest.mark.integration


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Artifact]:
    """A registry whose version 1 of ``m`` has a classifier in the store, as a release leaves it."""
    small_model.write(tmp_path)
    (tmp_path / "harms.jsonl").write_text("".join(json.dumps(row) + "\n" for row in harms()))
    sha256 = hashlib.sha256((tmp_path / "harms.jsonl").read_bytes()).hexdigest()
    labels = gather.HarmLabelsConfig(
        files=(LabelsConfig(path="harms.jsonl", sha256=sha256, licence="CC0"),), categories={"rude": "R", "cruel": "C"}
    )
    heads = ContentClassifierConfig(seed=0, protected=("cruel",), heads=HeadsConfig(directions=16, steps=60))
    store = Store(f"file://{tmp_path}/store", str(tmp_path / "scratch"))
    made: dict[str, Artifact] = {}

    def build(name: str, config: Config, parents: dict[str, Artifact], run) -> None:
        inputs = {role: store.fetch(parent) for role, parent in parents.items()}
        made[name] = store.build(Spec(name, config, parents, "code"), lambda out, _: run(inputs, out)).artifact

    build("imported", heads, {}, lambda _, out: shutil.copytree(tmp_path / "ours", out, dirs_exist_ok=True) and {})
    build("harm_labels", labels, {}, lambda _, out: gather.run(labels, {}, out, silent, [str(tmp_path)]))
    read = FeaturesConfig(max_tokens=16)
    sources = {"harm_labels": made["harm_labels"], "decoder": made["imported"]}
    build("harm_features", read, sources, lambda given, out: features.run(read, given, out, out, ExecutionConfig(threads=1), silent))
    sources = {"harm_labels": made["harm_labels"], "harm_features": made["harm_features"]}
    build("content_classifier", heads, sources, lambda given, out: train.run(heads, given, out, silent))

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    registry = MlflowClient(uri)
    registry.create_registered_model("m")
    tags = {"store": f"file://{tmp_path}/store", "content_classifier": made["content_classifier"].ref}
    registry.create_model_version("m", str(tmp_path / "hf"), tags=tags)
    return made


def test_version_is_held_by_its_own_classifier_and_refused_where_that_is_gone(
    released: dict[str, Artifact], tmp_path: Path, capsys
) -> None:
    held = filter_of("models:/m/1", "release", None, 1)
    assert released["content_classifier"].ref in capsys.readouterr().out
    assert held.category("i will wwyk the old door of house 3") == "cruel"
    assert held.category("an old door of house 3") is None
    said = held.moderation("i will wwyk the old door of house 3")
    assert (said["flagged"], said["categories"]["cruel"], set(said["category_scores"])) == (True, True, {"rude", "cruel"})
    out = Held(held)
    assert out.take("an old door of house 3 is here and ", last=False) == ("an old door of house 3 is here and ", None)
    assert out.take("now i will wwyk the tall lamp of house 5 ", last=False) == ("", "cruel")
    assert filter_of("models:/m/1", "release", 0.999999, 1).category("i will wwyk the old door of house 3") is None

    shutil.rmtree(tmp_path / "store" / "content_classifier")
    with pytest.raises(ValueError, match=f"artifact {released['content_classifier'].ref}: not in store"):
        filter_of("models:/m/1", "release", None, 1)
