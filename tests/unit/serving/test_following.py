"""A server follows its alias: versions change under load, and no request is lost or answered by weights that it does not name."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import openai
import pytest
from mlflow import MlflowClient

from modelyard.adapters.mlflow import model_source
from modelyard.commands import serve
from modelyard.commands.app import main
from modelyard.execution import ExecutionConfig
from modelyard.model.asked import Decoding
from modelyard.model.subject import Subject
from tests.unit.serving.running import Server

pytestmark = pytest.mark.integration

SAID = "Which of these is red?"
GREEDY = Decoding(max_new_tokens=24, temperature=0.0, samples=1, seed=0)


def registered(models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A registry with a version for each model, of which the first is in production."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    registry = MlflowClient(uri)
    registry.create_registered_model("m")
    for model in models:
        registry.create_model_version("m", str(model))
    registry.set_registered_model_alias("m", "production", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return registry


def test_alias_that_moves_during_the_download_leaves_weights_number_and_filter_of_one_version(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registered(models, tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    download, judged, served = model_source.local_directory, [], []

    def moved(location: str, into: Path) -> Path:
        found = download(location, into)
        registry.set_registered_model_alias("m", "production", "2")
        return found

    monkeypatch.setattr(model_source, "local_directory", moved)
    monkeypatch.setattr(serve, "filter_of", lambda model, *_: judged.append(model))
    monkeypatch.setattr("modelyard.serving.server.run", lambda serving, *_: served.append(serving.current))
    assert main(["serve", "models:/m@production", "--threads", "1", "--book", "none", "--follow", "600"]) == 0
    (current,) = served
    current.close()
    first = Subject.open("x", models[0], ExecutionConfig(threads=1), 1)
    assert (current.model.weights, current.model.version, judged, current.source) == (first.weights, "1", ["models:/m/1"], "models:/m/1")


def test_alias_that_moves_under_load_loses_no_request_and_one_that_goes_serves_nobody(
    models: list[Path], tmp_path: Path, monkeypatch
) -> None:
    subjects = [Subject.open("x", model, ExecutionConfig(threads=1), 4) for model in models]
    says = {f"fp_{one.weights[:16]}": one.reply([SAID], GREEDY)[0].text for one in subjects}
    assert len(set(says.values())) == 2
    registry = registered(models, tmp_path, monkeypatch)
    server = Server("models:/m@production", "--rows", "2", "--follow", "0.2", directory=tmp_path)

    answers: list[tuple[str, str]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            whole = server.client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": SAID}], max_tokens=24, temperature=0
            )
            answers.append((whole.system_fingerprint, whole.choices[0].message.content))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for version in ("2", "1"):
        registry.set_registered_model_alias("m", "production", version)
        wanted = list(says)[int(version) - 1]
        deadline = time.monotonic() + 60
        while (answers[-1:] and answers[-1][0] != wanted) or not answers:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    over.set()
    for client in clients:
        client.join()
    assert {fingerprint for fingerprint, _ in answers} == set(says)
    assert all(text == says[fingerprint] for fingerprint, text in answers)

    registry.delete_registered_model_alias("m", "production")
    health = server.url.replace("/v1", "/health")
    while httpx.get(health).status_code == 200:
        time.sleep(0.05)
    with pytest.raises(openai.InternalServerError, match="nothing is released as m@production"):
        server.client.chat.completions.create(model="m", messages=[{"role": "user", "content": SAID}])
    registry.set_registered_model_alias("m", "production", "1")
    while httpx.get(health).status_code != 200:
        time.sleep(0.05)
    assert server.end() == (0, "")
