"""What Ray Train's controller passes on to the mailbox: itself, the metrics that the ranks reported, and the
ranks whose processes were lost.

Imported only where a worker group is started, because it imports Ray.
"""

from __future__ import annotations

import re
from typing import Any

from ray.train import UserCallback

from modelyard.adapters.ray.mailbox import Failure

PROCESS_LOST = (
    "ActorDiedError",
    "ActorUnavailableError",
    "OutOfMemoryError",
    "WorkerHealthCheckFailedError",
    "WorkerHealthCheckTimeoutError",
)
KILLED_FOR_MEMORY = re.compile(r"killed due to the node running low on memory\. Memory on the node \(.*?\) was (\S+) used / (\S+) limit")
"""What Ray's memory monitor says of a process that it killed, among some thirty lines."""


def cause_of_loss(error: Exception) -> str | None:
    """What ended a process that is gone, as Ray knows it; None where ``error`` is of no such process."""
    if type(error).__name__ not in PROCESS_LOST:
        return None
    if killed := KILLED_FOR_MEMORY.search(str(error)):
        return f"its process was killed for memory: {killed[1]} of its machine's {killed[2]} were used"
    return "its process died: killed from outside (by the kernel, where memory ran out), or crashed"


class ToMailbox(UserCallback):
    """Runs in the controller, which sees every report and every failure of the group."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive in the controller: its driver, which Ray Train gives no handle of it, can end it from now on."""
        import ray

        self.__dict__.update(state)
        self.mailbox.control.remote(ray.get_runtime_context().current_actor)

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Every rank has called ``ray.train.report``, as it does at the end of a stage: rank 0's metrics are
        the stage's.
        """
        import ray

        ray.get(self.mailbox.succeed.remote(metrics[0]))

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """A failure for every rank whose process died, before the group is started again or given up; a rank
        that raised has posted its own.
        """
        import ray

        for rank, error in sorted(worker_exceptions.items()):
            if cause := cause_of_loss(error):
                ray.get(self.mailbox.lose.remote(Failure(rank, cause, str(error), final=False)))
