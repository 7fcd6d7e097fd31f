"""How the ranks of a worker group find each other: a torch backend for Ray Train that opens no port to the
world and catches SIGTERM.

Ray Train's own backend lets torch start its TCPStore, which listens on every interface and asks for no
password. Here rank 0 listens on its own address alone, on a port that the system chose, and hands that socket
to the store. Uses Ray Train's backend interface and torch's public constructors. Imported only where a worker
group is started, because it imports Ray. Left out: TPUs.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import psutil
from ray.train.torch import TorchConfig

from modelyard import progress
from modelyard.adapters.ray import flight_recorder

_TorchBackend: Any = TorchConfig().backend_cls
_listener: socket.socket | None = None


class Meeting(NamedTuple):
    """Where and how the ranks meet."""

    host: str
    """Address of rank 0."""
    port: int
    backend: str
    """``gloo`` or ``nccl``."""
    timeout_s: float
    """Seconds after which a collective operation fails."""


def listen() -> tuple[str, int]:
    """On rank 0: open the socket of the store; returns its address and port."""
    global _listener
    import ray.util

    host = ray.util.get_node_ip_address()
    _listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    return host, _listener.getsockname()[1]


def join(meeting: Meeting) -> None:
    """On every rank, in its main thread: torchrun's environment variables, the process group, and SIGTERM as
    a request to stop.
    """
    import ray.util
    from ray.train import get_context

    dist: Any = importlib.import_module("torch.distributed")  # its stubs do not export the stores

    context, timeout = get_context(), timedelta(seconds=meeting.timeout_s)
    rank, ranks = context.get_world_rank(), context.get_world_size()
    os.environ |= {
        "MASTER_ADDR": meeting.host,
        "MASTER_PORT": str(meeting.port),
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
    }
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")  # as Ray Train sets it: a failed collective ends the process
    flight_recorder.switch_on(meeting.backend)
    listening = _listener.detach() if rank == 0 and _listener else None
    store = dist.TCPStore(
        meeting.host,
        meeting.port,
        ranks,
        rank == 0,
        timeout,
        multi_tenant=True,
        master_listen_fd=listening,
        use_libuv=True,
    )
    os.environ |= _local(store, rank, ranks)
    if name := interface(ray.util.get_node_ip_address()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    dist.init_process_group(
        meeting.backend,
        store=dist.PrefixStore("default", store),
        rank=rank,
        world_size=ranks,
        timeout=timeout,
    )
    signal.signal(signal.SIGTERM, lambda number, frame: progress.request_stop(progress.Stop.SIGNALLED))


def interface(address: str) -> str | None:
    """The network interface that has an IP address; None where none has. Gloo by itself takes the one of the machine's name, which Debian and
    Ubuntu put on loopback: ranks of two machines would call themselves."""
    found = psutil.net_if_addrs()
    return next((name for name, own in found.items() if any(one.address.partition("%")[0] == address for one in own)), None)


def _local(store: Any, rank: int, ranks: int) -> dict[str, str]:
    """The rank's place among those of its node, by the nodes' ids: Ray Train goes by addresses, which two nodes of one machine share."""
    import ray

    store.set(f"node/{rank}", ray.get_runtime_context().get_node_id())
    nodes = [store.get(f"node/{other}") for other in range(ranks)]
    mine = nodes[rank]
    return {
        "LOCAL_RANK": str(nodes[:rank].count(mine)),
        "LOCAL_WORLD_SIZE": str(nodes.count(mine)),
        "NODE_RANK": str(list(dict.fromkeys(nodes)).index(mine)),
    }


class OwnAddressBackend(_TorchBackend):
    """Ray Train's torch backend with a start of its own; its shutdown and its share of devices are Ray's."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Start the process group of ``worker_group``."""
        host, port = worker_group.execute_single(0, listen)
        worker_group.execute(join, Meeting(host, port, backend_config.backend, backend_config.timeout_s))


@dataclass
class OwnAddressConfig(TorchConfig):
    """Asks for :class:`OwnAddressBackend`; ``backend`` must be set."""

    @property
    def backend_cls(self) -> Any:
        """The backend that Ray Train starts."""
        return OwnAddressBackend
