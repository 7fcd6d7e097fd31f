"""Release tasks: the baseline to compare with, the decision, the export, the registry."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect import task

from modelyard.adapters.mlflow_tracker import tracking_uri
from modelyard.adapters.registry import Candidate, Move, Registry
from modelyard.artifacts import Artifact, Built, Spec, code_version
from modelyard.config import Config
from modelyard.model import hf
from modelyard.model.encoder import Encoder
from modelyard.progress import Report
from modelyard.release import decision
from modelyard.release.gate import Decision, ReleaseConfig
from tasks.stage import Place, build, is_transient, stage_task


class GateError(RuntimeError):
    """The line ended without a promotion; the message is the decision with its reasons, in one line."""


class LineDecision(ReleaseConfig):
    """What defines a decision and its card: the thresholds, and the line that the card names."""

    line: str
    """Name of the line."""


class ExportConfig(Config):
    """An export has no choices: format and special tokens follow from the model."""


@task(name="baseline", task_run_name="baseline", tags=["release"], retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def baseline_task(place: Place, policy: Artifact) -> Artifact | None:
    """Results of what is in production now (of its predecessor, if this very policy is in production); None before the first release."""
    ref = Registry(tracking_uri(), place.line).baseline_for(policy.fingerprint)
    return place.store.get(ref) if ref else None


@stage_task(name="decision", task_run_name="decision", tags=["release"], timeout_seconds=3600)
def decision_task(config: ReleaseConfig, place: Place, evidence: Mapping[str, Artifact]) -> Built:
    """Judge the evidence against the thresholds; the model card is written with it."""

    def produce(inputs: Mapping[str, Path], out: Path, checkpoints: Path, report: Report) -> dict[str, float]:
        return decision.run(config, inputs, out, report, place.line)

    defined = LineDecision(**dict(config), line=place.line)
    return build(Spec("decision", defined, evidence, code_version("modelyard.release.decision")), produce, place)


@stage_task(name="export", task_run_name="export", tags=["release"], timeout_seconds=3600)
def export_task(place: Place, policy: Artifact) -> Built:
    """The policy as a Hugging Face directory."""

    def produce(inputs: Mapping[str, Path], out: Path, checkpoints: Path, report: Report) -> dict[str, float]:
        from transformers.utils import logging

        logging.disable_progress_bar()  # the line has its own
        encoder = Encoder(inputs["policy"])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # so it is meant: a checkpoint is read without ranks
            hf.export_hf(inputs["policy"], out, end_id=encoder.document_end, pad_id=encoder.padding)
        report(1, 1, unit="model")
        return {}

    code = code_version("modelyard.model.hf") + code_version("modelyard.model.encoder")
    return build(Spec("export", ExportConfig(), {"policy": policy}, code), produce, place)


@task(name="show decision", task_run_name="show decision", tags=["release"], retries=2, timeout_seconds=300)
def show_decision_task(place: Place, decided: Artifact) -> Decision:
    """Read the decision and show it on its MLflow run."""
    verdict = decision.read_decision(place.store.fetch(decided))
    run_id = place.tracker.log(decided, place.link(decided))
    place.tracker.decision(run_id, verdict.verdict, reasons(verdict))
    return verdict


@task(name="register", task_run_name="register", tags=["release"], retries=2, retry_condition_fn=is_transient, timeout_seconds=600)
def register_task(place: Place, verdict: Decision, decided: Artifact, exported: Artifact, policy: Artifact) -> Sequence[Move]:
    """Register the export; ``candidate`` moves to it, ``production`` only on PROMOTE."""
    baseline = decided.parents.get("baseline")
    tags = {"policy": policy.ref, "decision_artifact": decided.ref, "export": exported.ref, "reasons": "; ".join(reasons(verdict))}
    candidate = Candidate(policy.fingerprint, decided.parents["results"], baseline, verdict.verdict, tags)
    run_id = place.tracker.log(exported, place.link(exported))
    return Registry(tracking_uri(), place.line).register(candidate, place.store.fetch(exported), run_id).moved


def reasons(verdict: Decision) -> list[str]:
    """One line a gate."""
    return [f"{gate.name}: {gate.verdict}, {gate.reason}" for gate in verdict.gates]


def against(verdict: Decision) -> str:
    """The decision in one line: the verdict and the reasons of the gates that speak against a promotion."""
    speaking = [f"{gate.name}: {gate.reason}" for gate in verdict.gates if gate.verdict != "PROMOTE"]
    return f"{verdict.verdict}: {'; '.join(speaking) or 'every gate is passed'}"
