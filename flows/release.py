"""Gates and what they let out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flows.data import Data
from flows.pipeline_config import PipelineConfig
from flows.posttrain import Aligned
from modelyard.adapters.registry import Move
from modelyard.artifacts import Built
from modelyard.release.gate import Decision
from tasks.release import baseline_task, decision_task, export_task, register_task, show_decision_task
from tasks.stage import Place


class Released(NamedTuple):
    """What the release stage did."""

    verdict: Decision
    decided: Built
    exported: Built | None
    moved: Sequence[Move]


def release(config: PipelineConfig, place: Place, data: Data, forecast: Built, base: Built, models: Aligned, results: Built) -> Released:
    """Decide; export and register what is not blocked. Only PROMOTE moves ``production``."""
    policy = models.policy.artifact
    built = {"results": results, "base": base, "sft": models.sft, "policy": models.policy, "forecast": forecast}
    evidence = {role: made.artifact for role, made in {**built, "corpus": data.corpus, "contamination": data.contamination}.items()}
    if baseline := baseline_task(place, policy):
        evidence["baseline"] = baseline
    decided = decision_task(config.release, place, evidence)
    verdict = show_decision_task(place, decided.artifact)
    if verdict.verdict == "BLOCK":
        return Released(verdict, decided, None, ())
    exported = export_task(place, policy)
    return Released(verdict, decided, exported, register_task(place, verdict, decided.artifact, exported.artifact, policy))
