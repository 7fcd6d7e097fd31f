"""Seconds of work on a device, by its own events where it has them; and what its memory held at most."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def seconds_of(work: Callable[[], object], rounds: int, warm: int = 3) -> float:
    """Median seconds of ``work`` over ``rounds`` after ``warm`` unmeasured ones."""
    for _ in range(warm):
        work()
    return statistics.median(each(work) for _ in range(rounds))


def each(work: Callable[[], object]) -> float:
    """Seconds of one piece of work: between two CUDA events, the second of which is waited for; by the clock
    on a CPU.
    """
    if not torch.cuda.is_available():
        started = time.perf_counter()
        work()
        return time.perf_counter() - started
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def peak_gib() -> float:
    """Most memory that tensors held on the GPU since the process began, in GiB; 0 without one."""
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
