"""``modelyard prune`` on a real store and a real registry: it says first and removes on demand, and nothing of a release."""

import json
from pathlib import Path

import pytest

from modelyard.adapters.mlflow.registry import Candidate, Registry
from modelyard.adapters.mlflow.tracker import Tracker
from modelyard.commands.app import main
from modelyard.exit_codes import BAD_INPUT, DONE
from modelyard.store.artifacts import Store
from modelyard.store.manifest import Artifact
from modelyard.store.pruning import DAY
from tests.worlds.line import Literals, make_line
from tests.worlds.registry import log_directory


def age(store: Store) -> None:
    """Everything was finished forty days earlier; when it was is no part of what children remember."""
    for ref in store.refs():
        file = Path(store.storage.root) / ref / "artifact.json"
        manifest = json.loads(file.read_text())
        file.write_text(json.dumps({**manifest, "finished": manifest["finished"] - 40 * DAY}))
    store.storage.remove(".used")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / ".modelyard"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Store("file://.modelyard/store", ".modelyard/scratch")


def register(store: Store, made: dict[str, Artifact], verdict: str, uri: str) -> None:
    registry, tracker = Registry(uri, "line"), Tracker(uri, "line")
    policy = made["policy"]
    tags = {"decision_artifact": made["decision"].ref, "export": made["export"].ref}
    tags |= {f"{name}_manifest": store.get(made[name].ref).manifest for name in ("decision", "export")}
    candidate = Candidate(policy.fingerprint, policy.ref, made["results"].ref, registry.opponent(policy.ref), verdict, tags)
    run = tracker.client.create_run(tracker.experiment).info.run_id
    registry.register(candidate, store.fetch(made["export"]), run, log=log_directory)


def test_prune_says_first_removes_on_demand_and_keeps_releases_and_decisions(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune"]) == BAD_INPUT
    assert "there is no MLflow" in capsys.readouterr().err
    released, held, blocked, tried = (
        make_line(store, policy=Literals(seed=seed), verdict=verdict) for seed, verdict in enumerate(("PROMOTE", "HOLD", "BLOCK", "BLOCK"))
    )
    age(store)
    uri = f"sqlite:///{tmp_path}/.modelyard/mlflow.db"
    register(store, released, "PROMOTE", uri)
    register(store, blocked, "BLOCK", uri)
    register(store, tried, "BLOCK", uri)  # the candidate now
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*/artifact.json")}
    assert main(["prune"]) == DONE
    said = capsys.readouterr().out
    assert "would be removed; --delete removes it" in said
    assert blocked["policy"].ref in said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*/artifact.json")} == before
    assert main(["prune", "--delete"]) == DONE
    assert " removed" in capsys.readouterr().out
    for kept, names in ((released, released), (tried, tried), (held, ("corpus", "tokens", "policy", "results", "decision"))):
        assert [name for name in names if store.find(*kept[name].ref.split("/")) is None] == []
    assert [name for name in ("policy", "results", "decision", "export") if store.find(*blocked[name].ref.split("/"))] == []
    assert main(["lineage", "line"]) == DONE
    assert main(["lineage", "line/2"]) == 1
    assert f"{blocked['policy'].ref}  not in the store any more" in capsys.readouterr().out
    assert main(["prune", "--delete"]) == DONE
    assert capsys.readouterr().out.endswith("0 bytes removed\n")


def test_prune_that_asks_another_registry_says_so_and_keeps_what_a_decision_released(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    released, blocked = (make_line(store, policy=Literals(seed=seed), verdict=verdict) for seed, verdict in enumerate(("PROMOTE", "BLOCK")))
    age(store)
    register(store, released, "PROMOTE", f"sqlite:///{tmp_path}/.modelyard/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other := f"sqlite:///{tmp_path}/other.db")
    Registry(other, "").client.search_registered_models()
    assert main(["prune", "--delete"]) == DONE
    assert "no version in this registry was released from this store" in capsys.readouterr().out
    assert store.find(*blocked["export"].ref.split("/")) is None
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert main(["verify", "line"]) == DONE
    assert main(["prune", "--delete"]) == DONE
    assert "no version in this registry" not in capsys.readouterr().out


def test_command_on_a_store_that_is_not_there_is_refused_in_one_line(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Registry(f"sqlite:///{tmp_path}/.modelyard/mlflow.db", "").client.search_registered_models()
    (tmp_path / "photos/2026").mkdir(parents=True)
    for place, commands in (("nosuch", ("verify", "prune --delete --store")), ("photos", ("verify",))):
        for command in commands:
            assert main([*command.split(), f"file://{tmp_path}/{place}"]) == BAD_INPUT
            assert capsys.readouterr().err.endswith(f"file://{tmp_path}/{place}: no store: there is no finished artifact in it\n")
    make_line(store)
    assert main(["verify", "file://.modelyard/store"]) == DONE
