"""What a release is told of the model that serves."""

from pathlib import Path

from modelyard.adapters.mlflow.registry import Opponent
from modelyard.execution import ExecutionConfig
from modelyard.store.manifest import Artifact
from tasks.build import Place
from tasks.release import scores_task


def test_what_serves_and_is_not_in_the_store_is_said_to_be_missing_there_and_not_to_have_other_benchmarks(tmp_path: Path) -> None:
    place = Place("tiny", ExecutionConfig(store=f"file://{tmp_path}/store", scratch=f"{tmp_path}/scratch"))
    ours = Artifact.model_construct(name="results", version="0123", fingerprint="0123")
    known = scores_task.fn(place, Opponent("policy/abc", "results/def", "1"), ours)
    assert known.found is known.weights is None
    assert known.problem == (
        f"production (version 1): its results results/def are not in the store file://{tmp_path}/store, "
        "and its weights policy/abc are not there to be measured"
    )
