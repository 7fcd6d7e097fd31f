"""Evaluation task."""

from __future__ import annotations

from collections.abc import Mapping

from modelyard.artifacts import Artifact, Built
from modelyard.evals import evaluate, production
from modelyard.evals.suites import EvalsConfig
from tasks.stage import Place, stage_task
from tasks.training import TIMEOUT_SECONDS, train


@stage_task(name="evals", task_run_name="evals", tags=["evals"], timeout_seconds=TIMEOUT_SECONDS)
def evals_task(config: EvalsConfig, place: Place, parents: Mapping[str, Artifact]) -> Built:
    """Base, SFT model and policy on every benchmark, judged by the scorer."""
    return train("results", evaluate.run, config, parents, place)


@stage_task(name="baseline", task_run_name="baseline", tags=["evals"], timeout_seconds=TIMEOUT_SECONDS)
def baseline_task(config: EvalsConfig, place: Place, parents: Mapping[str, Artifact]) -> Built:
    """The production model on the benchmarks that the candidate was measured by."""
    return train("baseline", production.run, config, parents, place)
