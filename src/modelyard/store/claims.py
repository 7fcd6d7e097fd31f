"""One builder of an artifact at a time, on any number of machines that share a store.

A claim is a file ``.claims/{name}/{number}``; of two who create the same number one succeeds (an exclusive create is all that file:// and S3
have in common). Its holder rewrites it every few seconds. Who waits and has seen it unchanged in ``EXPIRY_SECONDS`` worth of looks takes it for
dead and creates the next number; a holder on the same machine whose process is gone is dead at once. No clocks are compared, and an outage of the
store, in which nobody can look, lets nobody's claim expire. Before it commits, the holder makes sure that the claim is still its own
(:meth:`Claim.keep`).
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from modelyard.log import logger
from modelyard.store.outage import PATIENCE_SECONDS, StorageError
from modelyard.store.storage import Storage

FOLDER = ".claims"
BEAT_SECONDS = 10.0
EXPIRY_SECONDS = PATIENCE_SECONDS + 60.0
"""Longer than a holder may wait out an outage that only it has: it is alive."""
POLL_SECONDS = 1.0
STARTTIME = 19
"""Field of ``/proc/PID/stat`` behind the name (the 22nd of proc(5))."""

_held: set[str] = set()
"""Ids of the claims that this process holds."""

_log = logger(__name__)


class Claim:
    """A held claim; as a context it keeps itself alive and is given up at the end."""

    def __init__(self, storage: Storage, name: str, number: int, owner: dict[str, Any], finished: Callable[[], bool]) -> None:
        self.storage, self.name, self.number, self.owner, self.finished = storage, name, number, owner, finished
        self.beats = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"claim {name}", daemon=True)

    @property
    def key(self) -> str:
        """Where it stands in the store."""
        return _key(self.name, self.number)

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        _held.discard(self.owner["id"])
        self._thread.join()
        with contextlib.suppress(StorageError):  # a finished build is no failure because of this; it expires
            if self.is_mine():
                self.storage.remove(f"{FOLDER}/{self.name}" if self.finished() else self.key)

    def is_mine(self) -> bool:
        """Whether nobody has taken it over."""
        numbers = _numbers(self.storage, self.name)
        return bool(numbers) and numbers[-1] == self.number and (_holder(self.storage, self.key) or {}).get("id") == self.owner["id"]

    def keep(self) -> bool:
        """Make sure of it before a commit: taken again where it was lost. False when the artifact is finished by somebody else."""
        if self.finished():  # a late beat may have brought the claim back that went with whoever finished it
            return False
        if self.is_mine():
            return True
        again = take(self.storage, self.name, self.finished)
        if again is None:
            return False
        _held.discard(self.owner["id"])
        self.number, self.owner = again.number, again.owner
        return True

    def _beat(self) -> None:
        while not self._done.wait(BEAT_SECONDS):
            try:
                if self.is_mine():
                    self.beats += 1
                    self.storage.write(self.key, _words({**self.owner, "beats": self.beats}))
            except (StorageError, FileNotFoundError) as error:
                _log.warning("claim on %s: %s", self.name, error)


def take(storage: Storage, name: str, finished: Callable[[], bool]) -> Claim | None:
    """The claim on ``name``, waiting for whoever holds it; None as soon as what was to be built is ``finished``. Raises StorageError."""
    owner = _me()
    claim = None
    try:
        claim = _taken(storage, name, owner, finished)
    finally:
        if claim is None:  # one that comes true later, of a request that was given up, is nobody's
            _held.discard(owner["id"])
    return claim


def _taken(storage: Storage, name: str, owner: dict[str, Any], finished: Callable[[], bool]) -> Claim | None:
    """:func:`take` for ``owner``, who is said to hold it from before the request that asks for it."""
    seen: dict[str, Any] | None = None
    quiet = 0.0
    told = False
    while not finished():
        numbers = _numbers(storage, name)
        newest = numbers[-1] if numbers else 0
        holder = _holder(storage, _key(name, newest)) if newest else None
        if newest and holder is None:
            continue  # given up between two looks
        if holder != seen:
            seen, quiet = holder, 0.0
        if holder is None or quiet >= EXPIRY_SECONDS or _is_gone(holder):
            _held.add(owner["id"])
            if storage.create(_key(name, newest + 1), _words(owner)):
                for number in numbers:
                    storage.remove(_key(name, number))
                if finished():  # by whoever held it until just now
                    storage.remove(f"{FOLDER}/{name}")
                    return None
                return Claim(storage, name, newest + 1, owner, finished)
            _held.discard(owner["id"])
            continue
        if not told:
            where = (holder.get("pid"), holder.get("user"), holder.get("host"))
            _log.warning("%s is being built by process %s of %s on %s; waiting for it", name, *where)
            told = True
        time.sleep(POLL_SECONDS)
        quiet += POLL_SECONDS
    return None


def take_unclaimed(storage: Storage, name: str) -> Claim | None:
    """The claim on ``name`` where nobody holds one, without waiting; it leaves nothing behind. Raises StorageError."""
    if _numbers(storage, name):
        return None
    owner = _me()
    made = False
    _held.add(owner["id"])
    try:
        made = storage.create(_key(name, 1), _words(owner))
    finally:
        if not made:
            _held.discard(owner["id"])
    return Claim(storage, name, 1, owner, finished=lambda: True) if made else None


def _key(name: str, number: int) -> str:
    return f"{FOLDER}/{name}/{number:08d}"


def _numbers(storage: Storage, name: str) -> list[int]:
    return [int(entry) for entry in storage.names(f"{FOLDER}/{name}") if entry.isdigit()]


def _holder(storage: Storage, key: str) -> dict[str, Any] | None:
    """What the claim at ``key`` says; None where there is none. Unreadable words are somebody's all the same."""
    try:
        words = storage.read(key)
    except FileNotFoundError:
        return None
    try:
        said = json.loads(words)
    except ValueError:
        said = None
    return said if isinstance(said, dict) else {"unreadable": words.hex()}


def _words(owner: dict[str, Any]) -> bytes:
    return json.dumps(owner).encode()


def _me() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "id": uuid.uuid4().hex,
        "user": _user(),
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": pid,
        "born": _born(pid),
    }


def _user() -> str:
    """Name of the user that this process is, whatever its environment says; the number where nobody gave it a name (as in containers)."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _machine() -> str:
    """This boot of this machine and this process namespace: only here does a process id mean anything."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return uuid.uuid4().hex


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether the holder ran here and its process has ended, or is this one and has given up without being able to say so."""
    if holder.get("machine") != _machine():
        return False
    if holder.get("pid") == os.getpid():
        return holder.get("id") not in _held
    try:
        return _born(int(holder["pid"])) != holder.get("born")
    except psutil.NoSuchProcess:
        return not _is_hidden(int(holder["pid"]))
    except (KeyError, TypeError, ValueError):
        return True
    except psutil.Error:
        return False


def _is_hidden(pid: int) -> bool:
    """Whether a process is there that /proc does not show: another user's, on a machine that mounts it with ``hidepid``."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return False


def _born(pid: int) -> float:
    """When a process of this machine began: clock ticks since the machine did, which no step of the clock changes; where /proc does not
    say them, seconds since 1970. Raises psutil.NoSuchProcess."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return psutil.Process(pid).create_time()
    return float(after_name[STARTTIME])
