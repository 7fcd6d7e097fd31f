"""One writer of a registered model's aliases at a time, on whatever server keeps them.

MLflow moves aliases one by one and knows no transaction, but two creations of one registered model never both succeed. So the lock is a
registered model ``{name}.lock`` that exists while somebody holds it; what it guards takes a second or two. Who has waited ``LEASE_SECONDS``
for one and the same holder takes it for dead and removes its lock; no clocks are compared. A server that does not answer says nothing of
who holds the lock: what it raises goes up. Left out: fairness.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from modelyard.adapters.mlflow.server import tolerated
from modelyard.child_server import ServerError
from modelyard.log import logger

LEASE_SECONDS = 60.0
POLL_SECONDS = 0.1

_log = logger(__name__)


class LockLostError(ServerError):
    """The lock was held too long and somebody else took it. Trying again may help."""


@contextmanager
def locked(client: MlflowClient, name: str, lease: float = LEASE_SECONDS) -> Iterator[Callable[[], None]]:
    """Hold the lock of the registered model ``name``; waits for its holder.

    Yields a check to be called before each write: it raises LockLostError when the lock was lost, and what MLflow raises when that cannot be
    known. A lock that cannot be given back is a warning: what it guarded is done.
    """
    lock, owner = f"{name}.lock", f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
    seen, since = None, 0.0
    told = False
    while (holder := _taken_by(client, lock, owner)) != owner:
        if holder and not told:
            process = " on ".join(reversed(holder.rsplit("-", 2)[:2]))
            _log.warning("%s: process %s moves its aliases; waiting for it, for up to %.0f s if it is gone", name, process, lease)
            told = True
        if holder != seen:
            seen, since = holder, time.monotonic()
        elif holder is not None and time.monotonic() - since > lease:
            _remove(client, lock)
        time.sleep(POLL_SECONDS)

    def still_mine() -> None:
        if _owner(client, lock) != owner:
            raise LockLostError(f"{name}: another release took the lock; nothing more is moved, run it again")

    try:
        yield still_mine
    finally:
        with tolerated(f"{lock} could not be removed; the next release waits {lease:.0f} s for it"):
            if _owner(client, lock) == owner:
                _remove(client, lock)


def _taken_by(client: MlflowClient, lock: str, owner: str) -> str | None:
    """Who holds the lock once ``owner`` has asked for it; None where its holder has just gone."""
    try:
        client.create_registered_model(lock, tags={"owner": owner}, description="Held while aliases move.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return _owner(client, lock)  # this very one's, where the answer to its request was lost and it was sent again
    return owner


def _owner(client: MlflowClient, lock: str) -> str | None:
    """Who holds the lock; None where nobody does."""
    try:
        return str(client.get_registered_model(lock).tags.get("owner"))
    except MlflowException as error:
        _require_gone(error)
        return None


def _remove(client: MlflowClient, lock: str) -> None:
    """Remove the lock, unless somebody was faster."""
    try:
        client.delete_registered_model(lock)
    except MlflowException as error:
        _require_gone(error)


def _require_gone(error: MlflowException) -> None:
    """Raise ``error`` unless it says that there is no such registered model."""
    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
        raise error
