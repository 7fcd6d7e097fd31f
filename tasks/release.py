"""Release tasks: the baseline to compare with, the decision, the export, the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prefect import task
from prefect.events import emit_event

from modelyard.adapters import expectations, terminal
from modelyard.adapters.mlflow.registry import Candidate, Move, Opponent, Registry
from modelyard.adapters.mlflow.server import tracking_uri
from modelyard.config import Config
from modelyard.model.encoder import Encoder
from modelyard.model.hf.conversion import export_hf
from modelyard.progress import Report
from modelyard.release import decision
from modelyard.release.gates.gate import Decision, Gate
from modelyard.release.limits import ReleaseConfig
from modelyard.store.artifacts import Artifact, Built, Spec
from modelyard.store.code_identity import code_version
from tasks.build import Place, build, is_transient, stage_task


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


class LineDecision(ReleaseConfig):
    """What defines a decision and its card: the thresholds, the line that the card names, and why production could not be measured."""

    line: str
    """Name of the line."""
    unmeasured: str | None
    """Reason; None where production was measured or there is none."""


class ExportConfig(Config):
    """An export has no choices: format and special tokens follow from the model."""


@task(name="early gates", task_run_name="early gates", timeout_seconds=300)
def early_gates_task(config: ReleaseConfig, place: Place, corpus: Artifact, contamination: Artifact) -> None:
    """Stop a line that its data alone will block, before anything is paid for. Raises BlockError with the reasons."""
    gates = decision.early(config, place.store.fetch(corpus), place.store.fetch(contamination))
    for artifact in (corpus, contamination):
        place.note(artifact, "early_gates", "; ".join(f"{gate.name}: {gate.verdict}{set_aside(gate)}, {gate.reason}" for gate in gates))
    if blocking := [f"{gate.name}: {gate.reason}" for gate in gates if gate.standing == "BLOCK"]:
        raise BlockError(f"BLOCK before training: {'; '.join(blocking)}")


@task(name="find opponent", task_run_name="find opponent", retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def opponent_task(place: Place, policy: Artifact) -> Opponent | None:
    """What is in production now (its predecessor, if this very policy is in production); None before the first release."""
    return Registry(tracking_uri(), place.line).opponent(policy.ref)


@task(name="find scores", task_run_name="find scores", retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def scores_task(place: Place, opponent: Opponent, results: Artifact) -> Scores:
    """The opponent's scores if they are by the benchmarks of ``results``, else its weights, which can be measured again; or why neither."""
    if place.store.find(*opponent.scores.split("/")):
        scores = place.store.get(opponent.scores)
        if decision.comparable(place.store.fetch(scores), place.store.fetch(results)):
            return Scores(found=scores)
    if not place.store.find(*opponent.policy.split("/")):
        version = f"version {opponent.version}" if opponent.version else "a version that is gone"
        return Scores(
            problem=f"production ({version}) was measured by other benchmarks, and its weights {opponent.policy} are not in the store"
        )
    return Scores(weights=place.store.get(opponent.policy))


@stage_task(name="decision", task_run_name="decision", timeout_seconds=3600)
def decision_task(config: ReleaseConfig, place: Place, evidence: Mapping[str, Artifact], baseline: Baseline | None) -> Built:
    """Judge the evidence against the thresholds; the model card is written with it."""
    defined = LineDecision(**dict(config), line=place.line, unmeasured=baseline.problem if baseline else None)
    parents = {**evidence, "baseline": baseline.scores} if baseline and baseline.scores else evidence

    def produce(inputs: Mapping[str, Path], out: Path, checkpoints: Path, report: Report) -> dict[str, float]:
        return decision.run(config, inputs, out, report, expectations.validate, place.line, defined.unmeasured)

    return build(
        Spec("decision", defined, parents, code_version("modelyard.release.decision", "modelyard.adapters.expectations")), produce, place
    )


@stage_task(name="export", task_run_name="export", timeout_seconds=3600)
def export_task(place: Place, policy: Artifact) -> Built:
    """The policy as a Hugging Face directory."""

    def produce(inputs: Mapping[str, Path], out: Path, checkpoints: Path, report: Report) -> dict[str, float]:
        from transformers.utils import logging

        logging.disable_progress_bar()  # the line has its own
        encoder = Encoder(inputs["policy"])
        export_hf(inputs["policy"], out, end_id=encoder.document_end, pad_id=encoder.padding)
        report(1, 1, unit="model")
        return {}

    code = code_version("modelyard.model.hf.conversion", "modelyard.model.encoder")
    return build(Spec("export", ExportConfig(), {"policy": policy}, code), produce, place)


@task(name="show decision", task_run_name="show decision", retries=2, timeout_seconds=300)
def show_decision_task(place: Place, decided: Artifact) -> Decision:
    """Read the decision and show it on its MLflow run."""
    verdict = decision.read_decision(place.store.fetch(decided))
    run_id = place.tracker.log(decided, place.link(decided))
    place.tracker.decision(run_id, verdict.verdict, reasons(verdict))
    return verdict


@task(name="register", task_run_name="register", retries=2, retry_condition_fn=is_transient, timeout_seconds=600)
def register_task(
    place: Place, verdict: Decision, decided: Artifact, exported: Artifact, policy: Artifact, baseline: Baseline | None
) -> Sequence[Move]:
    """Register the export; ``candidate`` moves to it, ``production`` only on PROMOTE."""
    tags = {
        "decision_artifact": decided.ref,
        "export": exported.ref,
        "store": place.store.storage.url,
        "reasons": "; ".join(reasons(verdict)),
    }
    tags |= {role: decided.parents[role] for role in ("corpus", "tokens") if role in decided.parents}
    tags["forecast_error"] = next(
        (f"{g.metrics['release/forecast/error']:+.4f}" for g in verdict.gates if "release/forecast/error" in g.metrics), "none"
    )
    tags["overrides"] = "; ".join(f"{gate.name}{set_aside(gate)}" for gate in verdict.gates if gate.override) or "none"
    opponent = baseline.opponent if baseline else None
    candidate = Candidate(policy.fingerprint, policy.ref, decided.parents["results"], opponent, verdict.verdict, tags)
    run_id = place.tracker.log(exported, place.link(exported))
    moved = Registry(tracking_uri(), place.line).register(candidate, place.store.fetch(exported), run_id).moved
    if verdict.verdict == "HOLD" and any(move.alias == "candidate" for move in moved):
        resource = {"prefect.resource.id": f"modelyard.candidate.{place.line}", "prefect.resource.name": policy.ref}
        emit_event("modelyard.candidate.held", resource, payload={"reasons": against(verdict)})
    return moved


def announce(line: str) -> None:
    """A line for whoever watches the terminal."""
    terminal.console().print(line)


def reasons(verdict: Decision) -> list[str]:
    """One line a gate."""
    return [f"{gate.name}: {gate.verdict}{set_aside(gate)}, {gate.reason}" for gate in verdict.gates]


def set_aside(gate: Gate) -> str:
    """Who overrode the gate and why; "" where nobody did."""
    return f" overridden by {gate.override.name} ({gate.override.reason})" if gate.override else ""


def stopped(verdict: Decision) -> GateError:
    """The error that ends a line whose verdict is HOLD or BLOCK."""
    return (BlockError if verdict.verdict == "BLOCK" else HoldError)(against(verdict))


def against(verdict: Decision) -> str:
    """The decision in one line: the verdict and the reasons of the gates that speak against a promotion."""
    speaking = [f"{gate.name}: {gate.reason}" for gate in verdict.gates if gate.standing != "PROMOTE"]
    aside = [f"{gate.name}{set_aside(gate)}" for gate in verdict.gates if gate.override]
    return f"{verdict.verdict}: {'; '.join(speaking + aside) or 'every gate is passed'}"
