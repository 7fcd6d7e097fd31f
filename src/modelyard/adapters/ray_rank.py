"""What runs inside Ray: the mailbox actor between driver and ranks, and the loop that each rank runs.

A rank takes a job (one training stage), runs it, posts what came of it and waits for the next, so that consecutive stages share one
worker group: starting a group costs about ten seconds on two cores, nearly all of it imports. Only names of this module and of the stage
travel; both are imported on the worker. Left out: several jobs at once, since a rank trains one thing at a time.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from modelyard.config import Config, ExecutionConfig, first_error

IDLE_POLL_SECONDS = 0.02
REPORT_SECONDS = 0.2


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
    """Whether trying again is pointless: the stage refused its input or config (ValueError)."""


class News(NamedTuple):
    """What the driver learns from one look at the mailbox."""

    events: list[Event]
    warnings: list[str]
    failures: list[Failure]
    metrics: dict[str, float] | None
    first_line_at: float | None


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

    async def begin(self, rank: int) -> None:
        """Rank: the stage function is about to be called."""
        if rank == 0:
            self.first_line_at = time.time()
        self.results.pop(rank, None)

    async def report(self, event: Event) -> None:
        """Rank 0: progress."""
        self.events.append(event)

    async def warn(self, line: str) -> None:
        """Rank: something that a person should read, though the stage goes on."""
        self.warnings.append(line)

    async def succeed(self, rank: int, metrics: dict[str, float]) -> None:
        """Rank: the stage function returned."""
        self.results[rank] = metrics

    async def fail(self, failure: Failure) -> None:
        """Rank: the stage function raised."""
        self.failures.append(failure)

    async def news(self) -> News:
        """Driver: all that happened since the last call; ``metrics`` once every rank has returned."""
        events, self.events = self.events, []
        warnings, self.warnings = self.warnings, []
        finished = len(self.results) == self.ranks
        return News(events, warnings, list(self.failures), self.results[0] if finished else None, self.first_line_at)


class _ToMailbox(logging.Handler):
    """Brings a rank's warnings to the driver; Ray keeps what workers print to itself."""

    def __init__(self, mailbox: Any) -> None:
        super().__init__(logging.WARNING)
        self.mailbox = mailbox

    def emit(self, record: logging.LogRecord) -> None:
        """Post one line."""
        self.mailbox.warn.remote(" ".join(record.getMessage().split()))


def serve(arguments: dict[str, Any]) -> None:
    """The function every rank of a worker group runs: jobs from the mailbox until the group is stopped."""
    import ray
    from ray.train import get_context

    mailbox, rank = arguments["mailbox"], get_context().get_world_rank()
    done = 0
    while (job := ray.get(mailbox.take.remote(done))) is not None:
        ray.get(mailbox.begin.remote(rank))
        try:
            metrics = _run(job, rank, mailbox)
        except BaseException as error:
            failure = Failure(rank, one_line(error), traceback.format_exc(), final=isinstance(error, ValueError))
            ray.get(mailbox.fail.remote(failure))
            raise
        ray.get(mailbox.succeed.remote(rank, metrics))
        done = job.number
        gc.collect()


def _run(job: Job, rank: int, mailbox: Any) -> dict[str, float]:
    import torch

    torch.set_num_threads(job.execution.threads)
    last = 0.0

    def report(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        nonlocal last
        if rank == 0 and (metrics or done >= total or time.monotonic() - last >= REPORT_SECONDS):
            last = time.monotonic()
            mailbox.report.remote(Event(done, total, dict(metrics), unit))

    forward = _ToMailbox(mailbox)
    logging.getLogger("modelyard").addHandler(forward)
    try:
        return dict(job.run(job.config, job.inputs, job.out, job.checkpoints, job.execution, report))
    finally:
        logging.getLogger("modelyard").removeHandler(forward)


def one_line(error: BaseException) -> str:
    """The cause of ``error`` in one line; the type is named unless it is a ValueError, whose message is written for the user."""
    if isinstance(error, ValidationError):
        return f"{error.title}: {first_error(error)}"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
