"""What the machine is and what it can do at most: versions, memory, and the two ceilings that every other
figure is read against.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from bench.gpu.timing import seconds_of
from modelyard.execution import ExecutionConfig
from modelyard.model.network import parallel

PEAK_TFLOPS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312, "B200": 2250, "L40S": 362, "RTX 4090": 165}


def peak(name: str) -> float | None:
    """Dense bf16 TFLOP/s of a device by NVIDIA's data sheet, None where it is not known."""
    return next((float(value) for key, value in PEAK_TFLOPS.items() if key in name), None)


def environment(tiny: bool) -> dict[str, Any]:
    """Device, versions, and what products and copies reach on random data."""
    size, rounds = (256, 2) if tiny else (8192, 20)
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": platform.processor() or platform.machine(),
        "device": device_name(),
        "not_proven": "worlds of several ranks, NCCL between GPUs, Ray with GPUs: one GPU has none of them",
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
            "memory_gib": properties.total_memory / 2**30,
            "multiprocessors": properties.multi_processor_count,
            "peak_tflops": peak(properties.name),
        }
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    found["bf16_product_tflops"] = 2 * size**3 / seconds_of(lambda: a @ b, rounds) / 1e12
    source = torch.randn(size * size * 4, device=device)
    target = torch.empty_like(source)
    found["copy_gb_per_s"] = 2 * source.numel() * 4 / seconds_of(lambda: target.copy_(source), rounds) / 1e9
    return found


def device_name() -> str:
    """Name of the GPU, or ``cpu``."""
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"


def collectives(tiny: bool) -> dict[str, Any]:
    """Every collective that engine, optimizer and checkpoints use, called in a world of one: which give back what they must. Larger worlds are not
    shown by this.
    """
    layout = parallel.initialize(ExecutionConfig(threads=1))
    x = torch.arange(8.0, device=parallel.device())
    by_name = {name: bool(call(x)) for name, call in CALLS.items()}
    return {
        "backend": dist.get_backend(),
        "world": dist.get_world_size(),
        "rank": layout.rank,
        "by_name": by_name,
        "equal": all(by_name.values()),
    }


def _filled(x: torch.Tensor, call: Callable[[torch.Tensor], object]) -> bool:
    """Whether ``call`` fills a tensor like ``x`` with what stands in it."""
    target = torch.full_like(x, -1.0)
    call(target)
    return torch.equal(target, x)


def _kept(x: torch.Tensor, call: Callable[[torch.Tensor], object]) -> bool:
    """Whether ``call`` leaves a copy of ``x`` as it is, which in a world of one is the answer."""
    copy = x.clone()
    call(copy)
    return torch.equal(copy, x)


def _objects(x: torch.Tensor) -> bool:
    sent, gathered = [{"step": 1}], [None]
    dist.broadcast_object_list(sent, 0)
    dist.all_gather_object(gathered, {"step": 1})
    return sent == [{"step": 1}] == gathered


def _background(x: torch.Tensor) -> bool:
    """The gloo group beside training, which has CPU tensors also where ranks have GPUs."""
    gathered = [None]
    dist.all_gather_object(gathered, "here", group=parallel.background_group())
    return gathered == ["here"]


CALLS: dict[str, Callable[[torch.Tensor], bool]] = {
    "all_reduce_sum": lambda x: _kept(x, lambda copy: dist.all_reduce(copy, dist.ReduceOp.SUM)),
    "all_reduce_max": lambda x: _kept(x, lambda copy: dist.all_reduce(copy, dist.ReduceOp.MAX)),
    "broadcast": lambda x: _kept(x, lambda copy: dist.broadcast(copy, 0)),
    "all_gather": lambda x: _filled(x, lambda target: dist.all_gather([target], x)),
    "all_gather_into_tensor": lambda x: _filled(x, lambda target: dist.all_gather_into_tensor(target, x)),
    "reduce_scatter_tensor": lambda x: _filled(x, lambda target: dist.reduce_scatter_tensor(target, x)),
    "all_to_all_single": lambda x: _filled(x, lambda target: dist.all_to_all_single(target, x)),
    "objects": _objects,
    "barrier": lambda x: dist.barrier() is None,
    "background_group": _background,
    "engine": lambda x: torch.equal(parallel.gather_data_parallel(x), x) and _kept(x, parallel.sum_data_parallel),
}
"""Collective -> whether it gives back what it must of ``x`` [8] in a world of one."""
