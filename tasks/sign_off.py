"""Sign-off tasks: what was signed before, and keeping a signature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prefect import task

from modelyard.progress import Report
from modelyard.release import sign_off
from modelyard.store.artifacts import Artifact, Spec
from modelyard.store.code_identity import code_version
from tasks.build import Place, build


@task(name="find signature", task_run_name="find signature", retries=2, timeout_seconds=300)
def find_signature_task(place: Place, decided: Artifact) -> Artifact | None:
    """The signature under this very decision, or None."""
    return place.store.built(_spec(place, decided))


@task(name="sign off", task_run_name="sign off", timeout_seconds=3600)
def sign_off_task(place: Place, decided: Artifact, answer: sign_off.SignOff) -> Artifact:
    """Keep the signature with the decision and a card that shows it."""
    spec = _spec(place, decided)

    def produce(inputs: Mapping[str, Path], out: Path, checkpoints: Path, report: Report) -> dict[str, float]:
        return sign_off.run(sign_off.SignOffConfig(line=place.line), answer, inputs, out)

    return build(spec, produce, place).artifact


def _spec(place: Place, decided: Artifact) -> Spec:
    evidence = {role: place.store.get(ref) for role, ref in decided.parents.items()}
    return Spec(
        sign_off.NAME,
        sign_off.SignOffConfig(line=place.line),
        {**evidence, "decision": decided},
        code_version("modelyard.release.sign_off"),
    )
