"""What ``modelyard prune`` does: asks registry and store what is needed, prints the plan, and carries it out where that is wanted."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator

from modelyard.adapters import signing
from modelyard.adapters.mlflow.pages import every
from modelyard.adapters.mlflow.registry import Registry
from modelyard.adapters.mlflow.server import answering, tracking_uri
from modelyard.commands.command import say
from modelyard.commands.tables import table
from modelyard.execution import ExecutionConfig
from modelyard.release import decision, sign_off
from modelyard.store import pruning
from modelyard.store.artifacts import Store
from modelyard.store.manifest import NAME, ArtifactError
from modelyard.store.pruning import Piece

DECISION = "decision"
ROOTS = (signing.NAME, sign_off.NAME)
"""Artifacts that stay, each with the release that it belongs to."""
PLACE = re.compile(f"{NAME.pattern}/{NAME.pattern}")
OPPONENT = "opponent"
"""Tag of a version that was promoted."""


def show(days: float, url: str | None, scratch: str | None, delete: bool) -> None:
    """Print what goes and what stays; remove it where ``delete`` says so. Raises ServerError where the registry cannot be asked."""
    execution = ExecutionConfig()
    store = Store(url or execution.store, scratch or execution.scratch)
    if url and not any(store.refs()):
        store.require_artifacts()
    with answering(tracking_uri()):
        released = set(of_registry())
    decided = set(of_decisions(store))
    if decided and not any(store.known(ref) for ref in released if PLACE.fullmatch(ref)):
        say("no version in this registry was released from this store; MLFLOW_TRACKING_URI or MODELYARD_HOME says which registry is asked")
    planned = pruning.plan(store, released | decided, days, time.time())
    for title, pieces in (("artifact", planned.artifacts), ("artifact", planned.unfinished), ("scratch", planned.scratch)):
        if pieces:
            say(table((title, "size", "why"), [row(piece) for piece in pieces], right=("size",)))
    for line in planned.problems:
        say(f"kept, since it cannot be read: {line}")
    for why, count in planned.kept.items():
        say(f"kept: {count} artifacts {why}")
    if delete:
        pruning.carry_out(store, planned)
    say(f"{readable(planned.size)} {'removed' if delete else 'would be removed; --delete removes it'}")


def of_registry() -> Iterator[str]:
    """Artifacts that registered versions name: of those under an alias, and of those that were ever promoted."""
    client = Registry(tracking_uri(), "").client
    aliased = {(model.name, str(number)) for model in every(client.search_registered_models) for number in model.aliases.values()}
    for version in every(client.search_model_versions):
        if (version.name, str(version.version)) in aliased or OPPONENT in version.tags:
            yield from (value for value in version.tags.values() if value.count("/") == 1)


def of_decisions(store: Store) -> Iterator[str]:
    """Decisions that do not block, signatures of people and of keys; a decision that cannot be read is none that blocks."""
    for ref in store.refs():
        name = ref.partition("/")[0]
        if name in ROOTS or (name == DECISION and not blocks(store, ref)):
            yield ref


def blocks(store: Store, ref: str) -> bool:
    """Whether a decision refuses its model."""
    try:
        return bool(json.loads(store.read(store.get(ref), decision.FILE))["verdict"] == "BLOCK")
    except (ArtifactError, ValueError, KeyError, TypeError):
        return False


def row(piece: Piece) -> tuple[str, str, str]:
    """A piece's cells."""
    return piece.where, readable(piece.size), piece.why


def readable(size: int) -> str:
    """Bytes in the unit that fits."""
    units: Iterable[tuple[float, str]] = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    return next((f"{size / unit:.1f} {name}" for unit, name in units if size >= unit), f"{size} bytes")
