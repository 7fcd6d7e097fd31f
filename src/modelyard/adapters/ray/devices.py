"""Whether the ranks of a layout get GPUs, decided once by the driver, from what Ray has and what its autoscaler may start.

Every rank or none: a group whose ranks disagree would send CUDA tensors by gloo. What was decided travels to the ranks as ``execution.device``,
so a rank that cannot use the GPU that it was given says so (:mod:`modelyard.model.network.devices`). GPUs that are still to be started are
asked for and waited for here, before anything else is placed. Left out: GPUs that are there and busy, for which Ray lets a group wait.
"""

from __future__ import annotations

import time

from modelyard.adapters.ray import cluster, is_on_this_machine
from modelyard.adapters.ray.fit import StageError, sigterm
from modelyard.execution import Device, ExecutionConfig
from modelyard.log import logger
from modelyard.model.network.devices import found
from modelyard.progress import PreemptedError

LOOK_SECONDS = 1.0
_log = logger(__name__)


def placed(execution: ExecutionConfig) -> ExecutionConfig:
    """The execution with its device decided, and its GPUs there.

    Raises:
        ValueError: as :func:`chosen`.
        StageError: as :func:`wait`.
    """
    cluster.connect()
    ranks, gpus = execution.world_size, now()
    device = chosen(execution.device, ranks, gpus, most=gpus if is_on_this_machine() else at_most())
    if execution.device == "auto" and device == "cpu" and not gpus and is_on_this_machine():
        say_uncounted()
    if device == "cuda" and gpus < ranks:
        wait(ranks, execution.gpu_wait_seconds)
    return execution.model_copy(update={"device": device})


def now() -> int:
    """GPUs that the cluster has."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


def at_most() -> int | None:
    """GPUs that the cluster has or its autoscaler may start, by its node types; None where Ray knows of no autoscaler."""
    from ray._private.state import state

    found = state.get_max_resources_from_cluster_config()
    return None if found is None else max(int(found.get("GPU", 0)), now())


def chosen(device: Device, ranks: int, gpus: int, *, most: int | None) -> Device:
    """``"cuda"`` or ``"cpu"`` for ``ranks`` where Ray has ``gpus`` now and will have ``most``; None: a cluster that may grow, nobody says how far.

    Raises:
        ValueError: "cuda", and there are fewer GPUs than ranks for good.
    """
    if device == "cpu":
        return "cpu"
    if gpus >= ranks:
        return "cuda"
    if most is not None and most >= ranks:
        return "cuda"
    if device == "cuda" and most is not None:
        raise ValueError(f"execution.device is 'cuda', but the layout has {ranks} ranks and Ray {most} GPUs")
    if device == "auto":
        if gpus or most is None:
            known = "" if most is not None else "; execution.device = 'cuda' would wait for a cluster that grows"
            _log.warning("Ray has %d GPUs for %d ranks, so all of them compute on the CPU%s", gpus, ranks, known)
        return "cpu"
    return "cuda"


def say_uncounted() -> None:
    """Warn where this machine has GPUs, or a driver for some, and Ray counts none."""
    if here := found():
        _log.warning(
            "Ray counts no GPU on this machine, so all ranks compute on the CPU; GPUs here: %s; they are used once nvidia-smi lists one a rank, "
            "and execution.device = 'cuda' ends a run that gets none",
            here,
        )


def wait(ranks: int, seconds: float) -> None:
    """Ask the cluster for a GPU a rank and return once they are there; 0 seconds: however long it takes.

    Raises:
        StageError: they were not there in time.
        PreemptedError: SIGTERM came first.
    """
    import ray
    from ray.util import placement_group, remove_placement_group

    _log.warning("waiting for %d GPUs, of which the cluster has %d now", ranks, now())
    asked = placement_group([{"GPU": 1.0}] * ranks)  # which an autoscaler starts nodes for
    until = time.monotonic() + seconds
    try:
        with sigterm() as told:
            while not ray.wait([asked.ready()], timeout=LOOK_SECONDS)[0]:
                if told.is_set():
                    raise PreemptedError("stopped by SIGTERM while waiting for GPUs; run again to go on")
                if seconds and time.monotonic() >= until:
                    raise StageError(
                        f"waited {seconds:g} s (execution.gpu_wait_seconds) for {ranks} GPUs, and the cluster has {now()}; "
                        "start more, or split the model over fewer ranks"
                    )
    finally:
        remove_placement_group(asked)
