"""Who holds the lock of a registered model's aliases, who has lost it, and what a server that does not answer says of that: nothing."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from modelyard.adapters.mlflow.registry import Candidate, Registry
from modelyard.adapters.mlflow.registry_lock import LockLostError, locked
from modelyard.adapters.mlflow.tracker import Tracker
from modelyard.commands.app import main
from tests.worlds.registry import log_directory

AWAY = "nobody answers"


@pytest.fixture
def registry(uri: str, request: pytest.FixtureRequest) -> Registry:
    return Registry(uri, request.node.name)


def away(*_: Any, **__: Any) -> None:
    raise MlflowException(AWAY, TEMPORARILY_UNAVAILABLE)


def test_lock_of_a_dead_holder_is_waited_for_aloud_and_taken_over_and_the_late_holder_stops(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    with locked(registry.client, registry.name) as first:
        assert caplog.messages == []
        with locked(registry.client, registry.name, lease=1.0) as second:
            process = f"process {os.getpid()} on {socket.gethostname()}"
            assert caplog.messages == [f"{registry.name}: {process} moves its aliases; waiting for it, for up to 1 s if it is gone"]
            second()
            with pytest.raises(LockLostError, match="another release took the lock"):
                first()
    with pytest.raises(MlflowException):
        registry.client.get_registered_model(f"{registry.name}.lock")


def test_server_that_does_not_answer_is_not_taken_for_a_lock_that_was_lost(
    registry: Registry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        with locked(registry.client, registry.name) as still_mine:
            monkeypatch.setattr(registry.client, "get_registered_model", away)
            still_mine()

    with pytest.raises(MlflowException, match=AWAY):
        work()
    left = f"{registry.name}.lock could not be removed; the next release waits 60 s for it"
    assert caplog.messages == [f"MLflow: {left} ({AWAY})"]


def test_lock_that_its_holder_may_not_remove_is_not_waited_for_without_end(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(registry.client, registry.name):
        monkeypatch.setattr(registry.client, "delete_registered_model", away)
        with pytest.raises(MlflowException, match=AWAY), locked(registry.client, registry.name, lease=0.1):
            pass
        monkeypatch.undo()


def test_lock_whose_creation_was_answered_to_nobody_is_held(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    create: Callable[..., RegisteredModel] = MlflowClient.create_registered_model

    def sent_twice(client: MlflowClient, *given: Any, **named: Any) -> RegisteredModel:
        create(client, *given, **named)
        return create(client, *given, **named)

    monkeypatch.setattr(MlflowClient, "create_registered_model", sent_twice)
    with locked(registry.client, registry.name) as still_mine:
        still_mine()


def test_rollback_that_lost_the_lock_is_one_line(
    registry: Registry, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    tracker = Tracker(uri, "release")
    for name in ("a", "b"):
        run_id = tracker.client.create_run(tracker.experiment).info.run_id
        judged = Candidate(name, f"policy/{name}", f"results/{name}", registry.opponent(f"policy/{name}"), "PROMOTE", {})
        registry.register(judged, tmp_path, run_id, log=log_directory)
    alias = Registry.alias

    def robbed(self: Registry, which: str) -> Any:
        if which == "production":
            self.client.delete_registered_model(f"{self.name}.lock")
        return alias(self, which)

    monkeypatch.setattr(Registry, "alias", robbed)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    assert main(["rollback", registry.name, "2", "--name", "Ada", "--reason", "users complain"]) == 1

    said = "another release took the lock; nothing more is moved, run it again"
    assert capsys.readouterr().err == f"modelyard rollback: {registry.name}: {said}\n"
    monkeypatch.undo()
    assert alias(registry, "production").version == 2
