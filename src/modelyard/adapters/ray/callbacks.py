"""What a worker group tells Ray Train beyond its size: catch SIGTERM on every rank, and say which rank's process was lost.

Uses Ray Train's two extension points, a backend's start and a user callback. Imported only where a group is started, because it imports Ray.
"""

from __future__ import annotations

import importlib
import signal
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ray.train import UserCallback
from ray.train.torch import TorchConfig

from modelyard import progress
from modelyard.adapters.ray.mailbox import Failure

PROCESS_LOST = ("ActorDiedError", "ActorUnavailableError", "WorkerHealthCheckFailedError", "WorkerHealthCheckTimeoutError")

_TorchBackend: Any = TorchConfig().backend_cls


def catch_sigterm() -> None:
    """On a rank, in its main thread (the stage runs in another): SIGTERM asks the stage to stop instead of ending the process in mid-step."""
    signal.signal(signal.SIGTERM, lambda number, frame: progress.request_stop(progress.Stop.SIGNALLED))


def listen_on_own_address() -> None:
    """On a rank, before the process group: torch's TCPStore, open to every interface and without a password, listens on MASTER_ADDR alone."""
    rendezvous: Any = importlib.import_module("torch.distributed.rendezvous")  # the package has a function of that name

    def store(host: str, port: int, rank: int, world_size: int, timeout: timedelta, use_libuv: bool = True) -> Any:
        settings: dict[str, Any] = {"timeout": timeout, "multi_tenant": True, "use_libuv": use_libuv}
        if rank == 0:
            listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            settings["master_listen_fd"] = listener.detach()
        return rendezvous.TCPStore(host, port, world_size, rank == 0, **settings)

    rendezvous._create_c10d_store = store


class PreemptibleBackend(_TorchBackend):
    """Ray Train's torch backend with :func:`listen_on_own_address` before it and :func:`catch_sigterm` after it on every rank."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Start the process group, then catch the signal."""
        worker_group.execute(listen_on_own_address)
        super().on_start(worker_group, backend_config)
        worker_group.execute(catch_sigterm)


@dataclass
class PreemptibleConfig(TorchConfig):
    """Asks for :class:`PreemptibleBackend`."""

    @property
    def backend_cls(self) -> Any:
        """The backend that Ray Train starts."""
        return PreemptibleBackend


class LostRanks(UserCallback):
    """Posts a failure to the mailbox for every rank whose process died; a rank that raised has posted its own."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called in Ray Train's controller before it restarts the group or gives up."""
        import ray

        for rank, error in sorted(worker_exceptions.items()):
            if type(error).__name__ in PROCESS_LOST:
                cause = "its process died (killed or out of memory)"
                ray.get(self.mailbox.lose.remote(Failure(rank, cause, str(error), final=False)))
