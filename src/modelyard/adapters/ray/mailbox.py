"""The mailbox actor between the driver of a worker group and its ranks: jobs go in, events, failures, pulses and outcomes come out.

It also keeps watch: it knows when each rank was last heard of, and tells the driver when the group hangs and on which rank. A job may have several
attempts (Ray Train restarts a group that failed); what an earlier one still says is not listened to. Left out: several jobs at once, since a rank
trains one thing at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.adapters.ray.watch import Place, Pulse, Verdict, judge
from modelyard.config import Config
from modelyard.execution import ExecutionConfig

IDLE_POLL_SECONDS = 0.02


class Job(NamedTuple):
    """One stage to run on every rank."""

    number: int
    run: Callable[..., Mapping[str, float]]
    config: Config
    inputs: Mapping[str, Path]
    out: Path
    checkpoints: Path
    execution: ExecutionConfig


class Event(NamedTuple):
    """One progress report of rank 0."""

    done: int
    total: int
    metrics: Mapping[str, float]
    unit: str


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
    first_line_at: float | None
    attempt: int
    """1, and one more for each restart of the group."""
    hung: Verdict | None


class Mailbox:
    """Actor between the driver (posts jobs, reads news) and the ranks (take jobs, post events and outcomes)."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.job: Job | None = None
        self.stopped = False
        self.reset()

    def reset(self) -> None:
        """Forget what the last job left."""
        self.events: list[Event] = []
        self.warnings: list[str] = []
        self.failures: list[Failure] = []
        self.results: dict[int, dict[str, float]] = {}
        self.first_line_at: float | None = None
        self.pulses: dict[int, Pulse] = {}
        self.actors: dict[int, Any] = {}
        self.attempt, self.failing, self.told_to_stop = 1, False, False
        self.failures_before_attempt = 0

    async def post(self, job: Job) -> None:
        """Driver: offer a job to the ranks."""
        self.reset()
        self.job = job

    async def stop(self) -> None:
        """Driver: no more jobs; ranks that wait go home."""
        self.stopped = True

    async def take(self, after: int) -> Job | None:
        """Rank: wait for an unfinished job numbered above ``after`` (0 after a restart: the same job again); None says go home."""
        while not self.stopped:
            if self.job is not None and self.job.number > after and len(self.results) < self.ranks:
                return self.job
            await asyncio.sleep(IDLE_POLL_SECONDS)
        return None

    async def tell_to_stop(self) -> None:
        """Driver: the ranks are to finish their step, write a checkpoint and end."""
        self.told_to_stop = True

    async def begin(self, rank: int, actor: Any, beats: int) -> int:
        """Rank: the stage function is about to be called in ``actor``, after ``beats`` signs of life; returns the attempt its pulses belong to."""
        if self.failing:
            self.attempt, self.failing = self.attempt + 1, False
            self.failures_before_attempt = len(self.failures)
        if rank == 0:
            self.first_line_at = time.time()
        self.results.pop(rank, None)
        self.actors[rank] = actor
        self.pulses[rank] = Pulse(beats, False, time.monotonic(), time.monotonic(), Place("its beginning", waiting=False))
        return self.attempt

    async def pulse(self, rank: int, attempt: int, beats: int, place: Place) -> bool:
        """Rank: its thread's signs of life so far and where it stands; returns whether it is to stop."""
        if attempt == self.attempt and rank in self.pulses:
            self.pulses[rank] = self.pulses[rank].later(beats, place, time.monotonic())
        return self.told_to_stop

    async def report(self, event: Event) -> None:
        """Rank 0: progress."""
        self.events.append(event)

    async def warn(self, line: str) -> None:
        """Rank: something that a person should read, though the stage goes on."""
        self.warnings.append(line)

    async def succeed(self, rank: int, metrics: dict[str, float]) -> None:
        """Rank: the stage function returned."""
        self.results[rank] = metrics
        self.pulses.pop(rank, None)

    async def fail(self, failure: Failure) -> None:
        """Rank: the stage function raised; or whoever finds that a rank is lost."""
        self.failing = True
        self.pulses.clear()
        self.failures.append(failure)

    async def lose(self, failure: Failure) -> None:
        """Ray Train: a rank's process is gone; what was said of it before is the better cause."""
        if not any(earlier.rank == failure.rank for earlier in self.failures[self.failures_before_attempt :]):
            await self.fail(failure)

    async def actor(self, rank: int) -> Any:
        """Driver: the actor that ``rank`` runs in, or None."""
        return self.actors.get(rank)

    async def news(self) -> News:
        """Driver: all that happened since the last call; ``metrics`` once every rank has returned."""
        events, self.events = self.events, []
        warnings, self.warnings = self.warnings, []
        finished = len(self.results) == self.ranks
        metrics = self.results[0] if finished else None
        return News(events, warnings, list(self.failures), metrics, self.first_line_at, self.attempt, self._hung())

    def _hung(self) -> Verdict | None:
        limit = self.job.execution.hang_seconds if self.job else 0.0
        return judge(self.pulses, self.ranks - len(self.results), time.monotonic(), limit) if limit else None
