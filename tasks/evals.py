"""Evaluation tasks: the candidate, production, and production then and now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from modelyard.evals.suites import EvalsConfig
from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact

from modelyard.adapters.mlflow.registry import Registry
from modelyard.adapters.mlflow.server import tracking_uri
from modelyard.evals import evaluate, production, refusals
from modelyard.store.artifacts import Artifact, Built
from tasks.build import Place, is_transient, stage_task
from tasks.training import TIMEOUT_SECONDS, train

EVIDENCE = ("policy", "corpus", "tokens", "contamination", "scorer")


class Serving(NamedTuple):
    """The version in production."""

    version: str
    """Its number in the registry."""
    evidence: Mapping[str, Artifact]
    """What is needed to measure it again: itself, and the data and the judge of its release."""
    then: Mapping[str, float]
    """Metrics of its release."""


@stage_task(name="evals", task_run_name="evals", timeout_seconds=TIMEOUT_SECONDS)
def evals_task(config: EvalsConfig, place: Place, parents: Mapping[str, Artifact]) -> Built:
    """Base, SFT model and policy on every benchmark, judged by the scorer."""
    return train("results", evaluate.run, config, parents, place)


@stage_task(name="baseline", task_run_name="baseline", timeout_seconds=TIMEOUT_SECONDS)
def baseline_task(config: EvalsConfig, place: Place, parents: Mapping[str, Artifact]) -> Built:
    """The production model on the benchmarks that the candidate was measured by."""
    return train("baseline", production.run, config, parents, place)


@task(name="serving", task_run_name="serving", retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def serving_task(config: EvalsConfig, place: Place) -> Serving | None:
    """What is in production; None before the first release. Raises ArtifactError where the store does not have it any more."""
    version = Registry(tracking_uri(), place.line).alias("production")
    if version is None:
        return None
    made_of = place.store.get(version.tags["decision_artifact"]).parents
    evidence = {role: place.store.get(made_of[role]) for role in EVIDENCE}
    results = place.store.get(made_of["results"])
    if config.conduct:
        evidence["sft"] = place.store.get(results.parents["sft"])  # who may have to judge
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


@stage_task(name="refusals", task_run_name="refusals", timeout_seconds=TIMEOUT_SECONDS)
def refusals_task(config: refusals.RefusalsConfig, place: Place, models: Mapping[str, Artifact]) -> Built:
    """What each model refuses of what it should, and of what only looks so."""
    return train("refusals", refusals.run, config, models, place)
