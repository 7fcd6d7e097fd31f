"""What is in production, and how it measures now beside then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact

from modelyard.adapters.mlflow.registry import Registry
from modelyard.adapters.mlflow.server import tracking_uri
from modelyard.store.manifest import Artifact
from tasks.build import Place, is_transient

MEASURED_BY = {"policy": "policy", "benchmarks": "benchmarks", "corpus": "corpus", "contamination": "contamination", "judge": "sft"}
"""Role of a baseline -> the role of the results artifact whose part it takes."""


class Serving(NamedTuple):
    """The version in production."""

    version: str
    """Its number in the registry."""
    evidence: Mapping[str, Artifact]
    """What is needed to measure it again: itself, and the data and the judge of its release."""
    then: Mapping[str, float]
    """Metrics of its release."""


@task(name="serving", task_run_name="serving", retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def serving_task(place: Place) -> Serving | None:
    """What is in production; None before the first release. Raises ArtifactError where the store does not have it any more."""
    registry = Registry(tracking_uri(), place.line)
    version = registry.alias("production")
    if version is None:
        return None
    decided = place.store.get(registry.tag(version, "decision_artifact"))
    results = place.store.get(decided.parents["results"])
    evidence = {role: place.store.get(results.parents[part]) for role, part in MEASURED_BY.items()}
    return Serving(str(version.version), evidence, results.metrics)


@task(name="drift", task_run_name="drift", retries=2, timeout_seconds=300)
def drift_task(serving: Serving, measured: Artifact) -> None:
    """Show each metric of production then and now."""
    rows = [
        {"metric": name, "at release": round(serving.then[name], 6), "now": round(now, 6), "change": round(now - serving.then[name], 6)}
        for name, now in measured.metrics.items()
        if name in serving.then
    ]
    create_table_artifact(key="production", table=rows, description=f"version {serving.version}, {measured.ref}")
    moved = [row for row in rows if row["change"]]
    get_run_logger().info("version %s: %d metrics, %d differ from its release", serving.version, len(rows), len(moved))
