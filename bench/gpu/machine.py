"""What the machine is and what it can do at most: versions, memory, and the two ceilings that every other
figure is read against.
"""

from __future__ import annotations

import platform
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
    """Every collective that the engine uses, in a world of one: whether it gives back what it must. Larger
    worlds are not shown by this.
    """
    layout = parallel.initialize(ExecutionConfig(threads=1))
    device = parallel.device()
    x = torch.arange(8.0, device=device)
    whole = [torch.empty_like(x)]
    dist.all_gather(whole, x)
    scattered = torch.empty_like(x)
    backend = dist.get_backend()
    if backend == "nccl":
        dist.reduce_scatter_tensor(scattered, x)
    else:
        scattered.copy_(x)
    reduced, sent = x.clone(), x.clone()
    dist.all_reduce(reduced, dist.ReduceOp.MAX)
    dist.broadcast(sent, 0)
    box = [{"step": 1}]
    dist.broadcast_object_list(box, 0)
    dist.barrier()
    equal = all(torch.equal(value, x) for value in (whole[0], scattered, reduced, sent)) and box == [{"step": 1}]
    engine = torch.equal(parallel.gather_data_parallel(x), x) and torch.equal(parallel.sum_data_parallel(x.clone()), x)
    return {"backend": backend, "world": dist.get_world_size(), "rank": layout.rank, "equal": bool(equal and engine)}
