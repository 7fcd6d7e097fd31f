"""Which device this process computes on, settled once and before anything asks CUDA.

``execution.device`` says what is wanted; everything else (megatron-core, our own choices of kernels) asks ``torch.cuda.is_available()``, whose
answer is made to agree. So a rank on the CPU of a machine with GPUs never mixes the two, and a rank that was given a GPU that torch cannot use
(a driver too old, a build without CUDA) ends in one line instead of computing on the CPU for days. Left out: other makers' devices.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from modelyard.complaint import complaint
from modelyard.execution import Device
from modelyard.log import logger
from modelyard.model.network import control_groups

DRIVER = Path("/proc/driver/nvidia/version")
"""Where Linux says which NVIDIA driver is loaded."""

SHORT = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
"""What torch says of memory that does not suffice in errors that have no class of their own."""

_log = logger(__name__)


def settle(device: Device) -> None:
    """Make ``torch.cuda.is_available()`` say what ``device`` asks for; "auto" takes a GPU where torch has one.

    Raises:
        ValueError: "cuda", and torch has no GPU; one line with its reason.
    """
    if device == "cpu":
        if torch.cuda.is_available():
            cuda: Any = torch.cuda
            cuda.is_available = lambda: False
        return
    if torch.cuda.is_available():
        return
    if device == "cuda":
        raise ValueError(f"execution.device is 'cuda', but this process has no GPU: {problem()}")
    if _has_driver():  # somebody expects more of this machine
        _log.warning("computing on the CPU although an NVIDIA driver is loaded: %s", problem())


def prepare_repeating(deterministic: bool) -> None:
    """Before a GPU multiplies for the first time: let its products be those that :func:`repeating` asks for."""
    if deterministic and torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextlib.contextmanager
def repeating(deterministic: bool) -> Iterator[None]:
    """Within it kernels on a GPU add in the same order every time, if ``deterministic``; on a CPU they always do.

    Attention then computes by flash: torch takes cuDNN's kernel, which has no such form, for none, and with ``warn_only`` would take it as it is.
    """
    if not (deterministic and torch.cuda.is_available()):
        yield
        return
    filling: Any = torch.utils.deterministic
    filling.fill_uninitialized_memory = False  # a pass over all memory, for programs that read what they did not write
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def problem() -> str:
    """Why torch sees no GPU, in one line."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return complaint(error)
    return f"none is visible (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')!r})"


def on_host(values: torch.Tensor) -> Any:
    """The numbers of ``values`` (``tolist``). On a GPU this waits for all that is queued there, collectives with other ranks among it: the watch
    over ranks (``adapters/ray/watch.py``) knows this function as one in which a rank waits.
    """
    return values.tolist()


def take(local_rank: int) -> None:
    """Compute on the GPU of this number. Raises ValueError where the machine has fewer."""
    if local_rank >= (found := torch.cuda.device_count()):
        raise ValueError(
            f"rank {local_rank} of this machine has no GPU: it has {found}; start fewer ranks, or set execution.device to 'cpu'"
        )
    torch.cuda.set_device(local_rank)


def description() -> str:
    """This process's GPU in one line: its name, driver, CUDA, NCCL, and memory."""
    free, total = (size / 2**30 for size in torch.cuda.mem_get_info())
    version = re.search(r"Kernel Module.*?(\d+\.[\d.]+)", DRIVER.read_text()) if DRIVER.is_file() else None
    driver = version[1] if version else "unknown"
    nccl = ".".join(map(str, torch.cuda.nccl.version()))
    return (
        f"{torch.cuda.get_device_name()}, driver {driver}, CUDA {torch.version.cuda}, NCCL {nccl}, "
        f"{free:.1f} of {total:.1f} GiB of memory free"
    )


def memory_left() -> int:
    """Bytes that this process may still take of its GPU, what torch keeps of earlier work among them; without one, of the machine's
    memory, as far as a container lets it."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    import psutil

    granted, left = control_groups.memory_left(), int(psutil.virtual_memory().available)
    return left if granted is None else min(granted, left)


@contextlib.contextmanager
def shortage_as_memory_error() -> Iterator[None]:
    """Within it memory that does not suffice is a MemoryError, whatever torch makes of it."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in SHORT):
            raise MemoryError(complaint(error)) from None
        raise


def short_of_memory(needed: int) -> str:
    """One line where this process's GPU has less memory left than the ``needed`` bytes; "" where it has enough, and on a CPU."""
    if not torch.cuda.is_available():
        return ""
    left, total = memory_left(), torch.cuda.mem_get_info()[1]
    if needed <= left:
        return ""
    left_gib, total_gib, needed_gib = (size / 2**30 for size in (left, total, needed))
    return (
        f"{needed_gib:.1f} GiB of GPU memory are needed at least, and {left_gib:.1f} of {total_gib:.1f} are free; "
        "more tensor_parallel, pipeline_parallel or data_parallel, a smaller micro_batch or execution.recompute need less"
    )


def found() -> str:
    """What a preflight says of this machine's GPUs: :func:`description`, why torch cannot use the one that is there, or "" where there is none."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {description()}"
    return f"none that torch can use: {problem()}" if _has_driver() else ""


def _has_driver() -> bool:
    """Whether an NVIDIA driver is loaded, whatever torch was built for."""
    return DRIVER.is_file()
