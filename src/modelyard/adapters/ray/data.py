"""Runs the data stage's table functions on Ray Data: the same function, the same order, any number of workers.

Blocks are the tables that the stage cut, one block a call (``batch_size=None``), and ``preserve_order`` keeps them in
order, so the result's bytes do not depend on the parallelism. Ray is started locally when no cluster is connected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from modelyard.adapters.ray import cluster as ray_cluster


class RayTransform:
    """A ``modelyard.data.corpus.document.Transform`` on Ray Data."""

    def __init__(self, workers: int) -> None:
        """Args: ``workers``: concurrent tasks of a call."""
        self.workers = workers

    def __call__(self, tables: list[pa.Table], function: Callable[[pa.Table], pa.Table]) -> Iterator[pa.Table]:
        """Yield ``function(table)`` for each table, in order, as results arrive."""
        if len(tables) < 2:  # nothing to spread, and a plan of Ray Data costs more than one table
            yield from map(function, tables)
            return
        import ray
        import ray.data

        ray_cluster.connect()
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        shared = ray.put(function)
        dataset = ray.data.from_arrow(tables).map_batches(
            _apply,
            fn_args=(shared,),
            batch_format="pyarrow",
            batch_size=None,
            compute=ray.data.TaskPoolStrategy(size=min(self.workers, max(len(tables), 1))),
        )
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")


def _apply(table: pa.Table, shared: Any) -> pa.Table:
    import ray

    return ray.get(shared)(table)
