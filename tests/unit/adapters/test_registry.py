"""Aliases move only as decisions say, and a second registration changes nothing. Real MLflow on SQLite."""

from pathlib import Path

import mlflow
import pytest

from modelyard.adapters.mlflow_tracker import Tracker
from modelyard.adapters.registry import Candidate, Move, Registered, Registry, RegistryError


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def registry(uri: str, request: pytest.FixtureRequest) -> Registry:
    return Registry(uri, request.node.name)


@pytest.fixture
def release(uri: str, registry: Registry, tmp_path: Path):
    tracker = Tracker(uri, "release")
    (tmp_path / "config.json").write_text("{}")

    def register(fingerprint: str, verdict: str) -> Registered:
        run_id = tracker.client.create_run(tracker.experiment).info.run_id
        candidate = Candidate(
            fingerprint, f"results/{fingerprint}", registry.baseline_for(fingerprint), verdict, {"forecast_error": "0.01"}
        )
        return registry.register(candidate, tmp_path, run_id)

    return register


def alias(registry: Registry, name: str) -> str | None:
    version = registry._alias(name)
    return str(version.version) if version else None


def test_registry_first_promotion_moves_candidate_and_production(registry: Registry, release) -> None:
    assert registry.production() is None

    result = release("a", "PROMOTE")

    assert result == Registered("1", (Move("candidate", None, "1"), Move("production", None, "1")))
    assert registry.production() == ("1", "a", "results/a", None)
    assert alias(registry, "previous") is None


@pytest.mark.parametrize("verdict", ["HOLD", "BLOCK"])
def test_registry_refused_candidate_leaves_production(registry: Registry, release, verdict: str) -> None:
    release("a", "PROMOTE")

    result = release("b", verdict)

    assert result.moved == (Move("candidate", "1", "2"),)
    assert alias(registry, "production") == "1"
    assert registry.client.get_model_version(registry.name, "2").tags["decision"] == verdict


def test_registry_second_promotion_keeps_the_previous_and_what_it_was_compared_with(registry: Registry, release) -> None:
    release("a", "PROMOTE")
    assert registry.baseline_for("b") == "results/a"

    release("b", "PROMOTE")

    assert (alias(registry, "production"), alias(registry, "previous")) == ("2", "1")
    assert registry.baseline_for("b") == "results/a"  # the same question as before it was promoted: the decision is found again
    assert registry.baseline_for("c") == "results/b"


def test_registry_same_run_again_changes_nothing(registry: Registry, release) -> None:
    release("a", "PROMOTE")
    release("b", "PROMOTE")

    again = release("b", "PROMOTE")

    assert again == Registered("2", ())
    assert len(registry.client.search_model_versions(f"name = '{registry.name}'")) == 2
    assert registry.baseline_for("b") == "results/a"


def test_registry_production_that_moved_since_the_decision_is_refused(registry: Registry, release, tmp_path: Path) -> None:
    release("a", "PROMOTE")
    late = Candidate("b", "results/b", registry.baseline_for("b"), "PROMOTE", {})
    release("c", "PROMOTE")

    with pytest.raises(RegistryError, match="production changed"):
        registry.register(late, tmp_path, "unused")
    assert alias(registry, "production") == "2"


def test_registry_version_downloads_as_the_export(registry: Registry, release, uri: str, tmp_path: Path) -> None:
    release("a", "PROMOTE")
    mlflow.set_tracking_uri(uri)

    path = mlflow.artifacts.download_artifacts(f"models:/{registry.name}@production", dst_path=str(tmp_path / "down"))

    assert (Path(path) / "config.json").read_text() == "{}"


def test_registry_directory_that_is_no_model_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"config\.json"):
        registry.register(Candidate("a", "results/a", None, "HOLD", {}), tmp_path / "none", "unused")
