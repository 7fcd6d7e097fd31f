"""What comes in and what is announced: new files, new versions of the data."""

from __future__ import annotations

import json

from prefect import get_run_logger, task
from prefect.events import emit_event

from modelyard.adapters import expectations
from modelyard.config import digest
from modelyard.data.corpus import drift
from modelyard.formats import json_file
from modelyard.store.inputs import expand
from modelyard.store.manifest import Artifact
from tasks.build import Place, is_transient


@task(name="announce version", task_run_name="announce version", retries=2, timeout_seconds=300)
def announce_version_task(line: str, corpus: Artifact) -> None:
    """Emit ``modelyard.data.version`` for a corpus that is new."""
    emit_event(
        "modelyard.data.version",
        {"prefect.resource.id": f"modelyard.corpus.{line}", "prefect.resource.name": corpus.ref},
        payload={"corpus": corpus.ref, "documents": corpus.metrics.get("corpus/documents/kept")},
    )


@task(name="drift", task_run_name="drift", retries=2, retry_condition_fn=is_transient, timeout_seconds=300)
def drift_task(place: Place, corpus: Artifact) -> None:
    """Refuse a corpus that is further from the line's version before than its config allows; else it is the version that the next is compared
    with."""
    found = drift.check(place.line, corpus, place.store, expectations.validate)
    get_run_logger().info("%s: %s", corpus.ref, "no other version before it" if found is None else "within its limits of drift")


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
