"""Independent pieces of work on all threads of a process, each computed by as few of them as the pieces leave.

torch shares every operation out among its threads; of operations that take 50 microseconds little is won so. Whole batches on threads of their own
gain what the machine has (docs/benchmarks.md). Left out: GPUs, which compute one batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

import torch

from modelyard.model.network import parallel

P = ParamSpec("P")
T = TypeVar("T")


def side_by_side() -> int:
    """How many pieces of work this process can compute at a time."""
    return torch.get_num_threads() if parallel.device().type == "cpu" else 1


class Cores:
    """Runs what it is given in that order, ``beside`` pieces at a time (at most :func:`side_by_side`). A context manager; use it once.

    A piece may wait for one that was submitted before it.
    """

    def __init__(self, beside: int) -> None:
        self.threads, self.workers = torch.get_num_threads(), max(1, beside)
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Cores:
        if self.workers > 1:
            self._pool = ThreadPoolExecutor(self.workers, "cores", torch.set_num_threads, (self.threads // self.workers,))
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self.threads)  # which later threads begin with

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """``work(...)`` without gradients: at once where one piece is computed at a time."""
        if self._pool is not None:
            return self._pool.submit(_without_gradients, partial(work, *args, **kwargs))
        done: Future[T] = Future()
        done.set_result(_without_gradients(partial(work, *args, **kwargs)))
        return done


def _without_gradients(work: Callable[[], T]) -> T:
    with torch.inference_mode():
        return work()
