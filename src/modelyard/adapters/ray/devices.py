"""Whether the ranks of a layout get GPUs, decided once by the driver, from what Ray has.

Every rank or none: a group whose ranks disagree would send CUDA tensors by gloo. What was decided travels to the ranks as ``execution.device``,
so a rank that cannot use the GPU that it was given says so (:mod:`modelyard.model.network.devices`).
"""

from __future__ import annotations

import logging

from modelyard.adapters.ray import cluster, is_on_this_machine
from modelyard.execution import Device, ExecutionConfig

_log = logging.getLogger(__name__)


def placed(execution: ExecutionConfig) -> ExecutionConfig:
    """The execution with its device decided. Raises ValueError as :func:`chosen`."""
    cluster.connect()
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    device = chosen(execution.device, execution.world_size, gpus, grows=not is_on_this_machine())
    return execution.model_copy(update={"device": device})


def chosen(device: Device, ranks: int, gpus: int, *, grows: bool) -> Device:
    """``"cuda"`` or ``"cpu"`` for ``ranks`` where Ray has ``gpus`` now; a cluster that ``grows`` may have more once they are asked for.

    Raises:
        ValueError: "cuda", and there are fewer GPUs than ranks for good.
    """
    if device == "cpu" or (device == "auto" and gpus == 0):
        return "cpu"
    if gpus >= ranks:
        return "cuda"
    if device == "auto":
        _log.warning("Ray has %d GPUs for %d ranks, so all of them compute on the CPU", gpus, ranks)
        return "cpu"
    if not grows:
        raise ValueError(f"execution.device is 'cuda', but the layout has {ranks} ranks and Ray {gpus} GPUs")
    _log.warning("waiting for %d GPUs, of which the cluster has %d now", ranks, gpus)
    return "cuda"
