"""Evaluation task."""

from __future__ import annotations

from collections.abc import Mapping

from modelyard.artifacts import Artifact, Built
from modelyard.evals import evaluate
from modelyard.evals.suites import EvalsConfig
from tasks.stage import Place, stage_task
from tasks.training import TIMEOUT_SECONDS, train


@stage_task(name="evals", task_run_name="evals", tags=["evals"], timeout_seconds=TIMEOUT_SECONDS)
def evals_task(config: EvalsConfig, place: Place, parents: Mapping[str, Artifact]) -> Built:
    """Base, SFT model and policy on every benchmark, judged by the scorer."""
    return train("results", evaluate.run, config, parents, place)
