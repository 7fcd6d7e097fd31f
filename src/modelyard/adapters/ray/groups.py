"""The worker groups of this process: which run, and which wait for another stage.

Stages that are built at the same time (``execution.parallel_stages``) have the ranks at the same time where the cluster has CPUs and GPUs for
both, and take turns where it has not. Counted is what this process asks for; on a cluster that others use too, Ray lets a group wait.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from modelyard.adapters.ray import cluster
from modelyard.adapters.ray.fit import Layout
from modelyard.adapters.ray.warm import WarmGroup


class Groups:
    """Running and waiting groups."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: list[Layout] = []
        self._waiting: list[WarmGroup] = []
        self._numbers = itertools.count(1)

    @contextmanager
    def place(self, layout: Layout) -> Iterator[None]:
        """A place for a group of its own, once there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(layout))
            self._running.append(layout)
        try:
            yield
        finally:
            self._leave(layout)

    @contextmanager
    def warm(self, layout: Layout) -> Iterator[WarmGroup]:
        """A group of this layout that waits for another stage afterwards: one that waits already, or a new one once there is room.

        It is stopped where the stage raises, and where its restarts are spent (:meth:`WarmGroup.run`'s news has failures).
        """
        with self._changed:
            found = self._changed.wait_for(lambda: self._waiter(layout) or self._has_room(layout))
            self._running.append(layout)
        group: WarmGroup | None = None
        try:
            group = found if isinstance(found, WarmGroup) else WarmGroup(layout, next(self._numbers))
            yield group
        except BaseException:
            if group:
                group.stop(wait=False)
            raise
        else:
            with self._changed:
                if group.spent:
                    group.stop(wait=True)
                else:
                    self._waiting.append(group)
        finally:
            self._leave(layout)

    def release(self, *, wait: bool = True) -> None:
        """Stop the groups that wait, so that their CPUs are free for other work."""
        with self._changed:
            self._stop_waiting(wait)

    def _leave(self, layout: Layout) -> None:
        with self._changed:
            self._running.remove(layout)
            self._changed.notify_all()

    def _waiter(self, layout: Layout) -> WarmGroup | None:
        """A group of the layout that waits, and does so no longer."""
        found = next((one for one in self._waiting if one.layout == layout), None)
        if found:
            self._waiting.remove(found)
        return found

    def _has_room(self, layout: Layout) -> bool:
        """Whether another group may start; those that wait make room for it."""
        if self._running:
            cluster.connect()
            import ray

            whole = ray.cluster_resources()
            wanted = [*self._running, layout]
            if any(sum(one.resources(whole)[kind] for one in wanted) > whole.get(kind, 0) for kind in ("CPU", "GPU")):
                return False
        self._stop_waiting(wait=True)
        return True

    def _stop_waiting(self, wait: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for group in waiting:
            group.stop(wait=wait)
