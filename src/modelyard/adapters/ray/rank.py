"""What a rank does: run one stage, tell the mailbox how it goes, report its metrics to Ray Train.

Only names of this module and of the stage travel; both are imported on the worker. While a stage runs, a
thread beside it sends the rank's pulse.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from modelyard import progress
from modelyard.adapters.ray import flight_recorder, node
from modelyard.adapters.ray.mailbox import Event, Failure
from modelyard.adapters.ray.watch import place_of, pulse_seconds
from modelyard.complaint import complaint, first_error
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.log import logger
from modelyard.model.network import devices

_log = logger(__name__)
REPORT_SECONDS = 0.2


class Job(NamedTuple):
    """One stage to run on every rank."""

    stage: str
    """Its name in the line: several stages may run the same function."""
    run: Callable[..., Mapping[str, float]]
    config: Config
    inputs: Mapping[str, Path]
    out: Path
    checkpoints: Path
    execution: ExecutionConfig
    driver: str
    """The disk of ``out``; "" where everything is on one machine (see :func:`modelyard.adapters.ray.node.of`)."""
    names: Mapping[str, frozenset[str]]
    """Role -> files that are read of its artifact; of a role that is not here all."""
    needed: int | None = None
    """Bytes of a GPU that a rank needs at least; None: not known."""


class _ToMailbox(logging.Handler):
    """Brings a rank's warnings to the driver; Ray keeps what workers print to itself."""

    def __init__(self, mailbox: Any) -> None:
        super().__init__(logging.WARNING)
        self.mailbox = mailbox

    def emit(self, record: logging.LogRecord) -> None:
        """Post one line."""
        self.mailbox.warn.remote(" ".join(record.getMessage().split()))


def train_stage(arguments: dict[str, Any]) -> None:
    """Ray Train's ``train_loop_per_worker``: run ``arguments["job"]``."""
    run_and_report(arguments["job"], arguments["mailbox"])


def run_and_report(job: Job, mailbox: Any) -> bool:
    """Run ``job`` on this rank and report its metrics; False where it has to end without any.

    A stage that raises raises here, for Ray Train to restart the group; only for a StopError, which every
    rank has, there is nothing to restart.
    """
    import ray
    import ray.train

    context = ray.train.get_context()
    rank = context.get_world_rank()
    attempt = ray.get(mailbox.begin.remote(rank, ray.get_runtime_context().current_actor, progress.beats()))
    if attempt is None:
        return False
    try:
        with _pulse(job, rank, attempt, mailbox):
            metrics = _run(job, rank, os.environ["LOCAL_RANK"] == "0", mailbox)
    except BaseException as error:
        final = isinstance(error, ValueError | progress.StopError)
        known = getattr(error, "rank", None)  # of errors that every rank raises for one rank's cause
        ray.get(mailbox.fail.remote(Failure(rank if known is None else known, one_line(error), traceback.format_exc(), final)))
        if isinstance(error, progress.StopError):
            return False
        raise
    ray.get(mailbox.finish.remote(rank))
    ray.train.report(metrics)
    return True


@contextlib.contextmanager
def _pulse(job: Job, rank: int, attempt: int, mailbox: Any) -> Iterator[None]:
    """Send this thread's signs of life to the mailbox while the block runs, and bring back the request to stop; where it stands still, send
    what the flight recorder holds.
    """
    import ray

    watched, done, hang_seconds = threading.get_ident(), threading.Event(), job.execution.hang_seconds

    def look(beats: int) -> None:
        if found := flight_recorder.recorded():
            mailbox.record.remote(rank, attempt, beats, found)

    def send() -> None:
        beats, moved, looking = progress.beats(), time.monotonic(), threading.Thread()
        while not done.wait(pulse_seconds(hang_seconds)):
            if progress.beats() != beats:
                beats, moved = progress.beats(), time.monotonic()
            if ray.get(mailbox.pulse.remote(rank, attempt, beats, place_of(watched))):
                progress.request_stop(progress.Stop.TOLD)
            if hang_seconds and time.monotonic() - moved > hang_seconds / 2 and not looking.is_alive():
                # apart from the pulses, which must not stop where a device answers no more
                looking = threading.Thread(target=look, args=(beats,), name="flight-recorder", daemon=True)
                looking.start()

    thread = threading.Thread(target=send, name="pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def _run(job: Job, rank: int, first: bool, mailbox: Any) -> dict[str, float]:
    """The stage's metrics; ``first``: of the ranks on this node."""
    import torch

    torch.set_num_threads(job.execution.threads)
    last = 0.0

    def report(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        nonlocal last
        progress.beat(stop=False)
        if rank == 0 and (metrics or done >= total or time.monotonic() - last >= REPORT_SECONDS):
            last = time.monotonic()
            mailbox.report.remote(Event(done, total, dict(metrics), unit, time.time()))
        if done < total:
            progress.stop_here(done, total, unit)

    forward = _ToMailbox(mailbox)
    logging.getLogger("modelyard").addHandler(forward)
    try:
        if job.needed and (short := devices.short_of_memory(job.needed)):
            _log.warning("rank %d: %s", rank, short)
        here = node.of(job.inputs, job.names, job.out, job.checkpoints, job.execution, job.driver, first=first)
        metrics = dict(job.run(job.config, here.inputs, here.out, here.checkpoints, here.execution, report))
        if first:
            node.send(here)
        return metrics
    finally:
        logging.getLogger("modelyard").removeHandler(forward)


def one_line(error: BaseException) -> str:
    """The cause of ``error`` in one line; the type is named unless its message is written for the user (ValueError, StopError)."""
    if isinstance(error, ValidationError):
        return f"{error.title}: {first_error(error)}"
    text = complaint(error)
    return text if isinstance(error, ValueError | progress.StopError) else f"{type(error).__name__}: {text}"
