"""One writer of a registered model's aliases at a time, on whatever server keeps them.

MLflow moves aliases one by one and knows no transaction, but two creations of one registered model never both succeed. So the lock is a
registered model ``{name}.lock`` that exists while somebody holds it; what it guards takes a second or two. Who has waited ``LEASE_SECONDS``
for one and the same holder takes it for dead and removes its lock; no clocks are compared. Left out: fairness.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from modelyard.log import logger

LEASE_SECONDS = 60.0
POLL_SECONDS = 0.1

_log = logger(__name__)


class LockLostError(RuntimeError):
    """The lock was held too long and somebody else took it."""


@contextmanager
def locked(client: MlflowClient, name: str, lease: float = LEASE_SECONDS) -> Iterator[Callable[[], None]]:
    """Hold the lock of the registered model ``name``; waits for its holder.

    Yields a check to be called before each write: it raises LockLostError when the lock was lost.
    """
    lock, owner = f"{name}.lock", f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
    seen, since = None, 0.0
    told = False
    while not _taken(client, lock, owner):
        holder = _owner(client, lock)
        if holder and not told:
            process = " on ".join(reversed(holder.rsplit("-", 2)[:2]))
            _log.warning("%s: process %s moves its aliases; waiting for it, for up to %.0f s if it is gone", name, process, lease)
            told = True
        if holder != seen:
            seen, since = holder, time.monotonic()
        elif holder is not None and time.monotonic() - since > lease:
            with suppress(MlflowException):  # another waiter was faster
                client.delete_registered_model(lock)
        time.sleep(POLL_SECONDS)

    def still_mine() -> None:
        if _owner(client, lock) != owner:
            raise LockLostError(f"{name}: another release took the lock; nothing more is moved, run it again")

    try:
        yield still_mine
    finally:
        if _owner(client, lock) == owner:
            client.delete_registered_model(lock)


def _taken(client: MlflowClient, lock: str, owner: str) -> bool:
    try:
        client.create_registered_model(lock, tags={"owner": owner}, description="Held while aliases move.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    return True


def _owner(client: MlflowClient, lock: str) -> str | None:
    try:
        return str(client.get_registered_model(lock).tags.get("owner"))
    except MlflowException:
        return None
