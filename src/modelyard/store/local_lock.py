"""One process of this machine at a time on a directory: a lock file beside it, which the kernel drops with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class LockedError(RuntimeError):
    """Somebody else works on the directory."""


@contextmanager
def alone(directory: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of ``directory``, which need not be there.

    The lock's file goes at the end. Who waited for it then holds a file that is nowhere any more and begins anew.

    Raises:
        LockedError: another process holds it, and this one is not to ``wait``.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    path = lock_of(directory)
    while True:
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise LockedError(f"{directory}: another process works on it") from None
            if not _is_at(path, lock):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def lock_of(directory: Path) -> Path:
    """The lock file of a directory."""
    return directory.with_name(f"{directory.name}.lock")


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
