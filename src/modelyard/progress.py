"""How a stage says how far it is, that it is alive, and hears that it should stop.

:class:`Report` is one call with done, total and metrics; what becomes of it (bar, MLflow, nothing) is the caller's choice. Beats and the request to
stop belong to the process, as signals do: whatever computes calls :func:`beat`, a watchdog beside it reads :func:`beats`, and a loop that
keeps checkpoints looks at :func:`stop_requested` between two steps. Work without checkpoints ends at its next beat or report
(:func:`stop_here`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Protocol


class Report(Protocol):
    """Receives progress. ``done`` and ``total`` count ``unit``s; ``metrics`` are ``stage/group/name`` -> value at this point."""

    def __call__(self, done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        """Take one progress event."""


def silent(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
    """A :class:`Report` that drops everything."""


class StopError(RuntimeError):
    """A run that has to end because another try from its last checkpoint would end the same way; the message is one line.

    Every rank raises it, after the same step.
    ``rank`` is the rank on which the cause lies, where all ranks know it; else the one that raises.
    """

    def __init__(self, message: str, rank: int | None = None) -> None:
        super().__init__(message)
        self.rank = rank


class PreemptedError(StopError):
    """A run that was asked to stop and has written its checkpoint; started again it goes on from there."""


class Stop(IntEnum):
    """Who asked a process to stop."""

    NOBODY = 0
    TOLD = 1
    """Whoever started the run."""
    SIGNALLED = 2
    """A SIGTERM to this process."""


_counter = itertools.count(1)
_beats = 0
_stop = Stop.NOBODY
_loops = 0
"""Loops under way that end by themselves after their step when they are asked to."""


def beat(*, stop: bool = True) -> None:
    """A sign of life: one piece of work is done. With ``stop``, raises PreemptedError where :func:`stop_here` would."""
    global _beats
    _beats = next(_counter)
    if stop and _stop and not _loops:
        request_stop(Stop.NOBODY)
        raise PreemptedError("stopped by SIGTERM between two reports; run again to do them again and go on")


def beats() -> int:
    """Signs of life of this process so far."""
    return _beats


def request_stop(by: Stop) -> None:
    """Ask the loop of this process to finish its step, write a checkpoint and end. Safe in a signal handler; ``NOBODY`` takes it back."""
    global _stop
    _stop = by


def stop_requested() -> Stop:
    """Who asked this process to stop."""
    return _stop


@contextmanager
def stops_itself() -> Iterator[None]:
    """A loop that looks at :func:`stop_requested` and writes a checkpoint before it ends; in it :func:`stop_here` does nothing."""
    global _loops
    _loops += 1
    try:
        yield
    finally:
        _loops -= 1


def stop_here(done: int, total: int, unit: str) -> None:
    """Raises PreemptedError where this process was asked to stop and what it does keeps no checkpoints; the request is then answered."""
    if _stop and not _loops:
        request_stop(Stop.NOBODY)
        of = f" of {total}" if total else ""
        raise PreemptedError(f"stopped by SIGTERM after {done}{of} {unit}s; run again to do them again and go on")
