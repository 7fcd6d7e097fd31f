"""Release tasks: early gates, the opponent to compare with, the decision shown, the registry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from prefect import task
from prefect.events import emit_event

from modelyard.adapters import expectations, signing, terminal
from modelyard.adapters.mlflow.registry import Candidate, Move, Opponent, Registry
from modelyard.adapters.mlflow.server import tracking_uri
from modelyard.evals.recount import recount
from modelyard.formats.results import read_results
from modelyard.release import decision, sign_off
from modelyard.release.audit import AuditError, audit, evidence
from modelyard.release.card import evolution, model_card
from modelyard.release.gates.gate import Decision, Gate
from modelyard.release.limits import ReleaseConfig
from modelyard.store.manifest import Artifact
from tasks.build import Place, is_transient

ERROR = "release/forecast/error"


class GateError(RuntimeError):
    """The line ended without a promotion; the message is the decision with its reasons, in one line."""


class HoldError(GateError):
    """A gate holds the model back until a person decides."""


class BlockError(GateError):
    """A gate refuses the model, or its data."""


class Scores(NamedTuple):
    """What is known of the opponent; one of the three is set."""

    found: Artifact | None = None
    """Its results by today's benchmarks."""
    weights: Artifact | None = None
    """Its policy, to be measured."""
    problem: str | None = None
    """Why there is neither."""


class Baseline(NamedTuple):
    """What a candidate is compared with, ready for the decision."""

    opponent: Opponent
    """What production is, with the scores that were used."""
    scores: Artifact | None
    """Its results by today's benchmarks; None where there are none."""
    problem: str | None
    """Why there are none."""


class Released(NamedTuple):
    """What the release did."""

    verdict: Decision
    """The decision, signed where a person was asked."""
    decided: Artifact
    """Its artifact."""
    moved: Sequence[Move]
    """Aliases that moved."""


@task(name="early gates", task_run_name="early gates", timeout_seconds=300)
def early_gates_task(config: ReleaseConfig, place: Place, corpus: Artifact, contamination: Artifact) -> None:
    """Stop a line that its data alone will block, before anything is paid for.

    Raises:
        BlockError: with the reasons.
        ValueError: an override has expired.
    """
    config.require_current(date.today())
    checked = {"data": place.store.fetch(corpus), "contamination": place.store.fetch(contamination)}
    gates = decision.early(config, checked["data"], checked["contamination"])
    for artifact in (corpus, contamination):
        place.note(artifact, "early_gates", "; ".join(f"{gate.name}: {gate.shown}{overridden(gate)}, {gate.reason}" for gate in gates))
    if blocking := [gate for gate in gates if gate.standing == "BLOCK"]:
        reasons = "; ".join(f"{gate.name}: {gate.reason}" for gate in blocking)
        reports = ", ".join(str(checked[gate.name] / REPORTS[gate.name]) for gate in blocking)
        raise BlockError(f"BLOCK before training: {reasons}; by item: {reports}")


REPORTS = {"data": "expectations.json", "contamination": "report.json"}
"""Gate -> file of its artifact that says what it saw."""


@task(name="find opponent", task_run_name="find opponent", retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def opponent_task(place: Place, policy: Artifact) -> Opponent | None:
    """What is in production now (its predecessor, if this very policy is in production); None before the first release."""
    return Registry(tracking_uri(), place.line).opponent(policy.ref)


@task(name="first release", task_run_name="first release", retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def is_first_task(place: Place, policy: Artifact) -> bool:
    """Whether this very policy serves, as the first release: then that was said when it was promoted."""
    return Registry(tracking_uri(), place.line).is_first(policy.ref)


@task(name="find versions", task_run_name="find versions", retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def versions_task(place: Place, policy: Artifact) -> dict[str, Artifact]:
    """``version_{number}`` -> results of every version released before this policy, the oldest release first, as far as the store has them."""
    found = Registry(tracking_uri(), place.line).released(policy.ref)
    kept = {number: ref for number, ref in found.items() if place.store.find(*ref.split("/"))}
    return {f"{evolution.VERSION}{number}": place.store.get(ref) for number, ref in kept.items()}


@task(name="find classifier", task_run_name="find classifier", retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def production_classifier_task(place: Place, policy: Artifact, own: Artifact | None) -> Artifact | str | None:
    """The content classifier that ``own`` is compared with: that of what serves or, where that is this very release, of what it replaced; only
    its ref where the store does not have it; None where there is none."""
    ref = Registry(tracking_uri(), place.line).classifier(policy.ref, own.ref if own else "")
    return (place.store.get(ref) if place.store.find(*ref.split("/")) else ref) if ref else None


@task(name="find scores", task_run_name="find scores", retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def scores_task(place: Place, opponent: Opponent, results: Artifact) -> Scores:
    """The opponent's scores if they are by the benchmarks of ``results``, else its weights, which can be measured again; or why neither."""
    why = f"its results {opponent.scores} are not in the store {place.store.storage.url}"
    if place.store.find(*opponent.scores.split("/")):
        scores = place.store.get(opponent.scores)
        if decision.comparable(place.store.fetch(scores), place.store.fetch(results)):
            return Scores(found=scores)
        why = "it was measured by other benchmarks"
    if not place.store.find(*opponent.policy.split("/")):
        version = f"version {opponent.version}" if opponent.version else "a version that is gone"
        return Scores(problem=f"production ({version}): {why}, and its weights {opponent.policy} are not there to be measured")
    return Scores(weights=place.store.get(opponent.policy))


@task(name="show decision", task_run_name="show decision", retries=2, timeout_seconds=300)
def show_decision_task(place: Place, decided: Artifact) -> Decision:
    """Read the decision and show it on its MLflow run."""
    verdict = decision.read_decision(place.store.fetch(decided))
    run_id = place.tracker.log(decided, place.link(decided))
    place.tracker.decision(run_id, verdict.verdict, reasons(verdict))
    return verdict


@task(name="register", task_run_name="register", retries=2, retry_condition_fn=is_transient, timeout_seconds=3600)
def register_task(
    place: Place, verdict: Decision, decided: Artifact, exported: Artifact, policy: Artifact, baseline: Baseline | None
) -> Sequence[Move]:
    """Judge the release again from its evidence and register the export; ``candidate`` moves to it, ``production`` only on PROMOTE.

    A release that serves already, by the very manifests that the registry remembers, was judged when it was registered; its hashes are
    checked, and nothing else. Raises AuditError where decision, evidence and export do not belong together.
    """
    registry = Registry(tracking_uri(), place.line)
    if signing.signer() is None and registry.serves(policy.ref, tags_of(place, verdict, decided, exported)):
        evidence(place.store, decided, exported).rules.require_current(date.today())
        return ()
    if "forecast" in decided.parents:
        sealed, trained = (place.store.get(decided.parents[role]) for role in ("forecast", "base"))
        if late := place.tracker.sealed_late(sealed, trained):
            raise AuditError(late)
    again = audit(place.store, decided, exported, expectations.validate, recount)
    again.rules.require_current(date.today())
    unanswered = decided.name != sign_off.NAME and verdict.gates[-1].name == sign_off.NAME
    verdict = sign_off.with_signature(again.decision, None) if unanswered else again.decision
    opponent = baseline.opponent if baseline else None
    tags = tags_of(place, verdict, decided, exported)
    if by := signing.signer():
        tags[signing.NAME] = signing.sign(place.store, decided, exported, by).ref
    candidate = Candidate(policy.fingerprint, policy.ref, decided.parents["results"], opponent, verdict.verdict, tags)
    run_id = place.tracker.log(exported, place.link(exported))
    evaluation = read_results(place.store.fetch(place.store.get(candidate.results))).metrics
    moved = registry.register(candidate, place.store.fetch(exported), run_id, evaluation).moved
    if verdict.verdict == "HOLD" and any(move.alias == "candidate" for move in moved):
        resource = {"prefect.resource.id": f"modelyard.candidate.{place.line}", "prefect.resource.name": policy.ref}
        emit_event("modelyard.candidate.held", resource, payload={"reasons": against(verdict)})
    return moved


def tags_of(place: Place, verdict: Decision, decided: Artifact, exported: Artifact) -> dict[str, str]:
    """What a registered version remembers of its release; by the hashes of the manifests the registry convicts a store that was edited."""
    forecast = (f"{gate.metrics[ERROR]:+.4f}" for gate in verdict.gates if ERROR in gate.metrics)
    return {
        "decision_artifact": decided.ref,
        "decision_manifest": decided.manifest,
        "export": exported.ref,
        "export_manifest": exported.manifest,
        "card": decided.files[model_card.FILE].sha256,
        "store": place.store.storage.url,
        "reasons": "; ".join(reasons(verdict)),
        **{role: decided.parents[role] for role in ("corpus", "tokens", "content_classifier") if role in decided.parents},
        "forecast_error": next(forecast, "none"),
        "overrides": "; ".join(f"{gate.name}{overridden(gate)}" for gate in verdict.gates if gate.override) or "none",
    }


def announce(line: str) -> None:
    """A line for whoever watches the terminal."""
    terminal.console().print(terminal.escape(line))


def reasons(verdict: Decision) -> list[str]:
    """One line a gate."""
    return [f"{gate.name}: {gate.shown}{overridden(gate)}, {gate.reason}" for gate in verdict.gates]


def overridden(gate: Gate) -> str:
    """Who overrode the gate and why; "" where nobody did."""
    override = gate.override
    return f" overridden by {override.name}, {override.when} ({override.reason})" if override else ""


def stopped(verdict: Decision) -> GateError:
    """The error that ends a line whose verdict is HOLD or BLOCK."""
    return (BlockError if verdict.verdict == "BLOCK" else HoldError)(against(verdict))


def against(verdict: Decision) -> str:
    """The decision in one line: the verdict, the gates that speak against a promotion and those that were overridden or set aside."""
    speaking = [f"{gate.name}: {gate.reason}" for gate in verdict.gates if gate.standing != "PROMOTE"]
    passed_over = [f"{gate.name}{overridden(gate)}" for gate in verdict.gates if gate.override]
    passed_over += [f"{gate.name} set aside ({gate.reason})" for gate in verdict.gates if gate.set_aside]
    return f"{verdict.verdict}: {'; '.join(speaking + passed_over) or 'every gate is passed'}"
