"""What Ray Train's controller passes on to the mailbox: itself, the metrics that the ranks reported, and the
ranks whose processes were lost.

Imported only where a worker group is started, because it imports Ray.
"""

from __future__ import annotations

from typing import Any

from ray.train import UserCallback

from modelyard.adapters.ray.mailbox import Failure

PROCESS_LOST = (
    "ActorDiedError",
    "ActorUnavailableError",
    "WorkerHealthCheckFailedError",
    "WorkerHealthCheckTimeoutError",
    "OutOfMemoryError",
)
LOW_ON_MEMORY = "running low on memory"
"""What Ray says where it ended a process itself, before the kernel would."""


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
            if type(error).__name__ in PROCESS_LOST:
                ray.get(self.mailbox.lose.remote(Failure(rank, lost(error), str(error), final=False)))


def lost(error: Exception) -> str:
    """Why a process is gone, as far as Ray knows."""
    if type(error).__name__ == "OutOfMemoryError" or LOW_ON_MEMORY in str(error):
        return "its process was killed: its machine ran out of memory"
    return "its process died (killed or out of memory)"
