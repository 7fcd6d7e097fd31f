"""Gates and what they let out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flows.data import Data
from flows.pipeline_config import PipelineConfig
from flows.posttrain import Aligned
from flows.sign_off import ask
from modelyard.adapters.mlflow.registry import Move
from modelyard.release.gates.gate import Decision
from modelyard.release.sign_off import with_signature
from modelyard.store.artifacts import Built
from tasks.build import Place
from tasks.release import Baseline, against, decision_task, export_task, register_task, show_decision_task
from tasks.sign_off import find_signature_task, sign_off_task


class Released(NamedTuple):
    """What the release stage did."""

    verdict: Decision
    decided: Built
    exported: Built | None
    moved: Sequence[Move]


def release(
    config: PipelineConfig,
    place: Place,
    data: Data,
    forecast: Built,
    base: Built,
    models: Aligned,
    results: Built,
    production: Baseline | None,
) -> Released:
    """Decide; export and register what is not blocked. Only PROMOTE moves ``production``."""
    policy = models.policy.artifact
    made = {**data._asdict(), **models._asdict(), "base": base, "forecast": forecast, "results": results}
    decided = decision_task(config.release, place, {role: built.artifact for role, built in made.items() if built}, production)
    verdict = show_decision_task(place, decided.artifact)
    if verdict.verdict == "BLOCK":
        return Released(verdict, decided, None, ())
    exported = export_task(place, policy)
    if verdict.verdict == "PROMOTE" and config.release.sign_off_minutes:
        verdict, decided = sign(place, verdict, decided, config.release.sign_off_minutes)
    return Released(verdict, decided, exported, register_task(place, verdict, decided.artifact, exported.artifact, policy, production))


def sign(place: Place, verdict: Decision, decided: Built, minutes: int) -> tuple[Decision, Built]:
    """The decision with a person's signature: the one given before, or the one given now; HOLD without one."""
    if kept := find_signature_task(place, decided.artifact):
        return show_decision_task(place, kept), Built(kept, cached=True)
    answer = ask(f"{place.line}: {against(verdict)}", minutes * 60)
    if answer is None:
        return with_signature(verdict, None), decided
    signed = sign_off_task(place, decided.artifact, answer)
    return show_decision_task(place, signed.artifact), signed
