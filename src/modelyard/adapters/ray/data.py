"""Runs the data stage's table functions as Ray tasks: the same function, the same order, any number of workers.

Results come in the order of the tables, so their bytes do not depend on the parallelism. At most ``workers`` tasks run at a time, over all calls
together: each is told to wait for the one so many places before it. Ray is started locally when no cluster is connected. Tasks rather than Ray
Data, whose plan and executor cost each block of 32 MB 0.8 s more (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from modelyard.adapters.ray import cluster as ray_cluster
from modelyard.data.corpus.document import TableFunction


class RayTransform:
    """A ``modelyard.data.corpus.document.Transform`` on Ray."""

    def __init__(self, workers: int) -> None:
        """Args: ``workers``: concurrent tasks."""
        self.workers = workers
        self._function: TableFunction | None = None
        self._shared: Any = None
        self._ended: list[Any] = []
        """What tells that each of the last tasks has ended, one a worker."""

    def __call__(self, tables: list[pa.Table], function: TableFunction) -> Iterator[pa.Table]:
        """``function(table)`` for each table, in order, as results arrive; the work begins at once."""
        if len(tables) < 2:  # nothing to spread
            return map(function, tables)
        ray_cluster.connect()
        return _arriving([self._started(table, function) for table in tables])

    def _started(self, table: pa.Table, function: TableFunction) -> Any:
        """The result of a task that runs once the task ``workers`` places before it has ended."""
        import ray

        if function is not self._function:
            self._function, self._shared = function, ray.put(function)
        before = self._ended.pop(0) if len(self._ended) == self.workers else None
        result, ended = ray.remote(_apply).options(num_returns=2).remote(table, self._shared, before)
        self._ended.append(ended)
        return result


def _arriving(results: list[Any]) -> Iterator[pa.Table]:
    import ray

    while results:
        yield ray.get(results.pop(0))


def _apply(table: pa.Table, function: TableFunction, before: None) -> tuple[pa.Table, None]:
    return function(table), None
