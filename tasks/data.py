"""Data tasks: corpus, human feedback, tokens, contamination report; what comes in and what is announced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from prefect import get_run_logger, task
from prefect.events import emit_event

from modelyard.adapters import expectations
from modelyard.adapters.ray import train as ray_train
from modelyard.adapters.ray.data import RayTransform
from modelyard.config import digest
from modelyard.data import corpus, tokens
from modelyard.data.contamination import check as contamination
from modelyard.data.contamination import overlap
from modelyard.data.feedback import gather as human_feedback
from modelyard.data.sources import installation
from modelyard.formats import json_file
from modelyard.progress import Report
from modelyard.store.artifacts import Artifact, Built, Spec
from modelyard.store.code_identity import code_version
from modelyard.store.inputs import expand
from tasks.build import Place, build, is_transient, stage_task


class InstalledCorpus(corpus.CorpusConfig):
    """What defines a corpus: its config, and the versions of the installed packages that it reads."""

    installed: dict[str, str]
    """Package -> version."""


@stage_task(
    name="corpus",
    task_run_name="corpus",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=is_transient,
    timeout_seconds=3600,
)
def corpus_task(config: corpus.CorpusConfig, place: Place) -> Built:
    """Fetch, filter, deduplicate and check the documents."""

    def produce(inputs: Mapping[str, Path], out: Path, checkpoints: Path, report: Report) -> dict[str, float]:
        ray_train.release()  # its CPUs are wanted here
        transform = RayTransform(place.execution.threads)
        return corpus.run(config, inputs, out, report, transform, Path(place.execution.scratch) / "sources", expectations.validate)

    defined = InstalledCorpus(**dict(config), installed=installation.versions(config.sources.packages))
    return build(Spec("corpus", defined, {}, code_version("modelyard.data.corpus", "modelyard.adapters.expectations")), produce, place)


@stage_task(name="feedback", task_run_name="feedback", timeout_seconds=3600)
def feedback_task(config: human_feedback.FeedbackConfig, place: Place, documents: Artifact | None) -> Built:
    """Gather demonstrations, comparisons and prompts of the corpus and of the user's files."""
    spec = Spec("feedback", config, {"corpus": documents} if documents else {}, code_version("modelyard.data.feedback.gather"))
    files = place.execution.inputs
    return build(spec, lambda inputs, out, _, report: human_feedback.run(config, inputs, out, report, files), place)


@stage_task(name="tokens", task_run_name="tokens", timeout_seconds=3600)
def tokens_task(config: tokens.TokensConfig, place: Place, documents: Artifact) -> Built:
    """Train the tokenizer and pack the tokens."""
    spec = Spec("tokens", config, {"corpus": documents}, code_version("modelyard.data.tokens"))
    return build(spec, lambda inputs, out, _, report: tokens.run(config, inputs, out, report), place)


@stage_task(name="contamination", task_run_name="contamination", timeout_seconds=3600)
def contamination_task(config: overlap.ContaminationConfig, place: Place, documents: Artifact, feedback: Artifact) -> Built:
    """Look for every benchmark's items in every training set."""
    spec = Spec("contamination", config, {"corpus": documents, "feedback": feedback}, code_version("modelyard.data.contamination.check"))
    return build(spec, lambda inputs, out, _, report: contamination.run(config, inputs, out, report), place)


@task(name="announce version", task_run_name="announce version", retries=2, timeout_seconds=300)
def announce_version_task(line: str, corpus: Artifact) -> None:
    """Emit ``modelyard.data.version`` for a corpus that is new."""
    emit_event(
        "modelyard.data.version",
        {"prefect.resource.id": f"modelyard.corpus.{line}", "prefect.resource.name": corpus.ref},
        payload={"corpus": corpus.ref, "documents": corpus.metrics.get("corpus/documents/kept")},
    )


@task(name="watch", task_run_name="watch {inbox}", retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def watch_task(inbox: str, place: Place) -> list[str]:
    """Files of ``inbox`` that the store has not been told of; they are announced (``modelyard.data.landed``) and then remembered."""
    storage, name = place.store.storage, digest(inbox)[:16]
    key = f"watched/{name}.json"
    try:
        seen = set(json_file.parse(storage.read(key), storage.path(key)))
    except FileNotFoundError:
        seen = set()
    new = [url for url in expand(inbox) if url not in seen]
    if new:
        resource = {"prefect.resource.id": f"modelyard.inbox.{name}", "prefect.resource.name": inbox}
        emit_event("modelyard.data.landed", resource, payload={"count": len(new), "files": new[:100]})
        storage.write(key, json.dumps(sorted(seen | set(new))).encode())
    get_run_logger().info("%d new files in %s", len(new), inbox)
    return new
