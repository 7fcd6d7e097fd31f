"""Sign-off tasks: what was signed before, and keeping a signature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prefect import task

from modelyard.progress import Report
from modelyard.release import sign_off, signature
from modelyard.store.manifest import Artifact
from tasks.build import Place, build


@task(name="find signature", task_run_name="find signature", retries=2, timeout_seconds=300)
def find_signature_task(place: Place, decided: Artifact) -> Artifact | None:
    """The signature under this very decision, or None."""
    return place.store.built(signature.spec(place.store, place.line, decided))


@task(name="sign off", task_run_name="sign off", timeout_seconds=3600)
def sign_off_task(place: Place, decided: Artifact, answer: sign_off.SignOff) -> Artifact:
    """Keep the signature with the decision and a card that shows it."""
    spec = signature.spec(place.store, place.line, decided)

    def produce(inputs: Mapping[str, Path], out: Path, checkpoints: Path, report: Report) -> dict[str, float]:
        return sign_off.run(sign_off.SignOffConfig(line=place.line), answer, inputs, out)

    return build(spec, produce, place).artifact
