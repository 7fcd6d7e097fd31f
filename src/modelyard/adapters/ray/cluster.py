"""The one way to a Ray cluster: a quiet local one on loopback, or the one that ``RAY_ADDRESS`` names.

Everything Ray needs from its surroundings is set here and before Ray is imported, since raylet and workers inherit the environment they
were started in. Left out: starting clusters of many machines (KubeRay's or ``ray start``'s business).
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenacity import RetryCallState, Retrying, retry_if_exception_message, stop_after_attempt

import modelyard
from modelyard.adapters.ray import LOOPBACK, is_on_this_machine, sessions
from modelyard.log import logger

# Read when Ray is imported or its processes start; the user's own values win.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keep CUDA_VISIBLE_DEVICES as it is on workers without GPUs, and its warning away
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",  # 15 by default: beside any other busy process the ranks would starve
    # Measured on 2 cores: none of what these switch off is read by anyone here, and each costs a process or a poll per worker group.
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same on every rank as on the driver
}

# Of a cluster on this machine: what Ray starts, and the sockets of gloo, are for loopback only.
LOCAL = {**LOOPBACK, "GLOO_SOCKET_IFNAME": "lo"}

# Nobody restarts the GCS of a cluster of our own: to wait Ray's 60 s for it is to hang.
OWN = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}

STARTS = 3
TOO_BUSY = ".*timed out during startup"
"""What Ray says of a node that did not start within its 30 s, which on a busy machine it may not."""

_log = logger(__name__)
_session: Path | None = None
"""Where the cluster that this process started keeps its logs."""


def connect() -> None:
    """Connect this process to Ray, starting a local cluster when no address is given. Does nothing when connected.

    The main thread's is the first call: Linux ends what Ray starts together with the thread that started it, and SIGTERM is the main thread's.
    """
    for key, value in {**QUIET, **(LOCAL if is_on_this_machine() else {})}.items():
        os.environ.setdefault(key, value)
    package_root = str(Path(modelyard.__file__).parents[1])
    search = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if package_root not in search:
        os.environ["PYTHONPATH"] = os.pathsep.join([package_root, *filter(None, search)])

    import ray

    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        with _own_sigterm():
            ray.init(log_to_driver=False, logging_level="ERROR")
        return
    for key, value in OWN.items():
        os.environ.setdefault(key, value)
    # Ray guards a local cluster by a token; this one is known to nobody else and is never on disk (Ray's own would be, world-readable).
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    sessions.remove_left()
    # On a local cluster a rank's CPUs are a promise, not a limit, so a layout of more ranks than cores still starts.
    patient = Retrying(stop=stop_after_attempt(STARTS), retry=retry_if_exception_message(match=TOO_BUSY), before_sleep=_again, reraise=True)
    with _own_sigterm():
        started = patient(
            ray.init,
            address="local",
            num_cpus=max(os.cpu_count() or 1, 2),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    global _session
    _session = Path(started.address_info["session_dir"])
    sessions.note(_session)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Put back what SIGTERM does, which is to end the run in order: a Ray that connects would have it end this process on the spot."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _again(state: RetryCallState) -> None:
    import ray

    _log.warning("Ray did not start in time on this busy machine; once more")
    ray.shutdown()


def dashboard() -> str:
    """URL of the Ray dashboard that ``MODELYARD_RAY_DASHBOARD`` names; empty where there is none, as on a local cluster."""
    return os.environ.get("MODELYARD_RAY_DASHBOARD", "")


def disconnect(*, keep_logs: bool = False) -> None:
    """Stop the local cluster (or leave the remote one); its logs go with it, unless they are to be kept. Does nothing when not connected."""
    import ray

    if ray.is_initialized():
        ray.shutdown()
    global _session
    session, _session = _session, None
    if session is not None and not keep_logs:
        sessions.remove(session)
