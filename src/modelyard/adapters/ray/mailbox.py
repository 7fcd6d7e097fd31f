"""The mailbox actor between a driver and its ranks: events, failures, pulses and metrics go to the driver,
the request to stop to the ranks.

It also keeps watch: it knows when each rank was last heard of, and tells the driver when the group hangs and
on which rank. A stage may have several attempts (Ray Train restarts a group that failed); what an earlier one
still says is not listened to. Why not ``ray.train.report`` for progress: a rank may have one report that the
controller has not fetched yet, so a loop that reports every step waits for the controller's poll every step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from modelyard.adapters.ray.flight_recorder import Recorded
from modelyard.adapters.ray.watch import Place, Pulse, Verdict, judge


class Event(NamedTuple):
    """One progress report of rank 0."""

    done: int
    total: int
    metrics: Mapping[str, float]
    unit: str
    at: float
    """When it was sent, seconds since 1970: calls of an asyncio actor may overtake each other."""


class Failure(NamedTuple):
    """An exception in a rank, as text: exceptions themselves need not survive pickling."""

    rank: int
    cause: str
    traceback: str
    final: bool
    """Whether trying again is pointless: the stage refused its input or config (ValueError) or has to stop (StopError)."""


class News(NamedTuple):
    """What the driver learns from one look at the mailbox."""

    events: list[Event]
    warnings: list[str]
    failures: list[Failure]
    metrics: dict[str, float] | None
    """The stage's, once every rank has reported."""
    attempt: int
    """1, and one more for each restart of the group."""
    hung: Verdict | None


class Mailbox:
    """Actor between the driver and the ranks of one stage."""

    def __init__(self, ranks: int, hang_seconds: float) -> None:
        self.ranks, self.hang_seconds, self.stopped = ranks, hang_seconds, False
        self.controller: Any = None
        self._reset()

    def _reset(self) -> None:
        self.events: list[Event] = []
        self.warnings: list[str] = []
        self.failures: list[Failure] = []
        self.metrics: dict[str, float] | None = None
        self.finished: set[int] = set()
        self.pulses: dict[int, Pulse] = {}
        self.recorders: dict[int, Recorded] = {}
        self.actors: dict[int, Any] = {}
        self.attempt, self.failing, self.told_to_stop = 1, False, False
        self.failures_before_attempt = 0

    async def control(self, controller: Any) -> None:
        """Ray Train: the actor that starts, watches and ends the ranks. The first to say so is it: it makes its ranks from what it got."""
        self.controller = self.controller or controller

    async def stop(self) -> Any:
        """Driver: the stage is given up; no rank is to begin any more. The controller, where it is known."""
        self.stopped = True
        return self.controller

    async def tell_to_stop(self) -> None:
        """Driver: the ranks are to finish their step, write a checkpoint and end."""
        self.told_to_stop = True

    async def begin(self, rank: int, actor: Any, beats: int) -> int | None:
        """Rank: the stage function is about to be called in ``actor``, after ``beats`` signs of life.

        Returns the attempt its pulses belong to; None where the stage was given up, and the rank is to end.
        """
        if self.stopped:
            return None
        if self.failing:
            self.attempt, self.failing = self.attempt + 1, False
            self.failures_before_attempt = len(self.failures)
        self.finished.discard(rank)
        self.recorders.pop(rank, None)
        self.actors[rank] = actor
        self.pulses[rank] = Pulse(beats, False, time.monotonic(), time.monotonic(), Place("its beginning", waiting=False))
        return self.attempt

    async def pulse(self, rank: int, attempt: int, beats: int, place: Place) -> bool:
        """Rank: its thread's signs of life so far and where it stands; returns whether it is to stop."""
        if attempt == self.attempt and rank in self.pulses:
            if beats != self.pulses[rank].beats:
                self.recorders.pop(rank, None)
            self.pulses[rank] = self.pulses[rank].later(beats, place, time.monotonic())
        return self.told_to_stop

    async def record(self, rank: int, attempt: int, beats: int, recorded: Recorded) -> None:
        """Rank: what its flight recorder holds, while it stands still after ``beats`` signs of life."""
        if attempt == self.attempt and rank in self.pulses and self.pulses[rank].beats == beats:
            self.recorders[rank] = recorded

    async def report(self, event: Event) -> None:
        """Rank 0: progress."""
        self.events.append(event)

    async def warn(self, line: str) -> None:
        """Rank: something that a person should read, though the stage goes on."""
        self.warnings.append(line)

    async def finish(self, rank: int) -> None:
        """Rank: the stage function returned; the rank now waits for the others, which is no hang."""
        self.finished.add(rank)
        self.pulses.pop(rank, None)
        self.recorders.pop(rank, None)

    async def succeed(self, metrics: dict[str, float]) -> None:
        """Ray Train: every rank has reported."""
        self.metrics = metrics

    async def fail(self, failure: Failure) -> None:
        """Rank: the stage function raised; or whoever finds that a rank is lost."""
        self.failing = True
        self.pulses.clear()
        self.recorders.clear()
        self.failures.append(failure)

    async def lose(self, failure: Failure) -> None:
        """Ray Train: a rank's process is gone; what was said of it before is the better cause."""
        if not any(earlier.rank == failure.rank for earlier in self.failures[self.failures_before_attempt :]):
            await self.fail(failure)

    async def actor(self, rank: int) -> Any:
        """Driver: the actor that ``rank`` runs in, or None."""
        return self.actors.get(rank)

    async def news(self) -> News:
        """Driver: all that happened since the last call."""
        events, self.events = sorted(self.events, key=lambda event: event.at), []
        warnings, self.warnings = self.warnings, []
        return News(events, warnings, list(self.failures), self.metrics, self.attempt, self._hung())

    def _hung(self) -> Verdict | None:
        waited_for = self.ranks - len(self.finished)
        if not self.hang_seconds or not waited_for:
            return None
        return judge(self.pulses, waited_for, time.monotonic(), self.hang_seconds, self.recorders)
