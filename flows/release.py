"""Gates and what they let out.

A release that waits for a signature asks for it whether its gates promote or hold: what a gate holds, a person may release, by name.
"""

from __future__ import annotations

from flows.pipeline_config import PipelineConfig
from flows.sign_off import ask
from modelyard.release import signature
from modelyard.release.gates.gate import Decision
from modelyard.release.limits import LineDecision, ReleaseConfig
from modelyard.release.sign_off import with_signature
from modelyard.store.manifest import Artifact
from tasks.build import Place
from tasks.line import Line
from tasks.release import (
    Baseline,
    Released,
    against,
    is_first_task,
    production_classifier_task,
    register_task,
    show_decision_task,
    versions_task,
)
from tasks.sign_off import find_signature_task, sign_off_task


def release(config: PipelineConfig, line: Line, production: Baseline | None) -> Released:
    """Decide; export and register what is not blocked. Only PROMOTE moves ``production``."""
    first = production is None and (config.release.first or is_first_task(line.place, line.released))
    unmeasured = production.problem if production else None
    own = line.artifact("content_classifier") if line.has("content_classifier") else None
    before = production_classifier_task(line.place, line.released, own) if production or own else None
    lost = before if isinstance(before, str) else None
    compared = versions_task(line.place, line.released)
    compared |= {"production_classifier": before} if isinstance(before, Artifact) else {}
    compared |= {"baseline": production.scores} if production and production.scores else {}
    decided = line.build_from("decision", rules(config, first, unmeasured, lost), compared).artifact
    verdict = show_decision_task(line.place, decided)
    if verdict.verdict == "BLOCK":
        return Released(verdict, decided, ())
    line.build("export")
    if config.release.sign_off_minutes:
        verdict, decided = sign(line.place, verdict, decided, config.release)
    moved = register_task(line.place, verdict, decided, line.artifact("export"), line.released, production)
    return Released(verdict, decided, moved)


def rules(config: PipelineConfig, first: bool, unmeasured: str | None = None, lost: str | None = None) -> LineDecision:
    """What defines the decision of a line: its thresholds, and what of production could not be measured or is gone."""
    return LineDecision(**{**dict(config.release), "first": first}, line=config.name, unmeasured=unmeasured, lost_classifier=lost)


def sign(place: Place, verdict: Decision, decided: Artifact, config: ReleaseConfig) -> tuple[Decision, Artifact]:
    """The decision with a person's signature: the one given before, or the one given now; HOLD without one."""
    if kept := find_signature_task(place, decided):
        return show_decision_task(place, kept), kept
    what, seconds = f"{place.line}: {against(verdict)}", config.sign_off_minutes * 60
    answer = ask(what, seconds, lambda: signature.kept(place.store, place.line, decided), at_desk=config.sign_at == "desk")
    if answer is None:
        return with_signature(verdict, None), decided
    signed = sign_off_task(place, decided, answer)
    return show_decision_task(place, signed), signed
