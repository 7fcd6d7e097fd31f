"""The index of a corpus's kept documents spread over Ray actors, one a partition: each holds one range of hashes and answers for it, on whatever
machine it is.

Where Ray is on this machine alone an actor maps the index files that are there; on a cluster it is sent its slices and keeps them in files of its
own, so no disk needs to be shared. A small index stays in this process, where a question costs no message. An actor whose process dies is started
again from the index files, once a question. Actors rather than shuffles of Ray Data, which would move the whole index for every block
(docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from modelyard.adapters.ray import cluster as ray_cluster
from modelyard.adapters.ray import is_on_this_machine
from modelyard.data.corpus.partitions import Answer, LocalPartitions, OpenPartitions, Partitions
from modelyard.data.filters.partition import Partition, Slice, beyond, cut, on_disk
from modelyard.data.filters.seen import Kept

FEWEST = 2_000_000
"""Documents in the index from which actors hold it. A choice, not a measurement: what actors cost and save beside each other turns on the machine
(``python -m bench.data_deduplication``)."""


def ray_partitions(workers: int, fewest: int = FEWEST, shared_disk: bool | None = None) -> OpenPartitions:
    """The index in ``workers`` partitions once it holds ``fewest`` documents.

    Args:
        workers: partitions.
        fewest: documents.
        shared_disk: whether every worker reads the files of this process; None: where Ray is on this machine alone.
    """

    @contextmanager
    def opened() -> Iterator[Partitions]:
        made = RayPartitions(workers, fewest, is_on_this_machine() if shared_disk is None else shared_disk)
        try:
            yield made
        finally:
            made.close()

    return opened


class RayPartitions:
    """A ``modelyard.data.corpus.partitions.Partitions`` of Ray actors."""

    def __init__(self, workers: int, fewest: int, shared_disk: bool) -> None:
        """Args: as :func:`ray_partitions`."""
        self._workers, self._fewest, self._shared_disk = workers, fewest, shared_disk
        self._here: LocalPartitions | None = LocalPartitions()
        self._actors: list[Any] = []
        self._kept: Sequence[Kept] = ()

    @property
    def count(self) -> int:
        """One while the index is small."""
        return 1 if self._here else self._workers

    def hold(self, kept: Sequence[Kept]) -> None:
        """As :meth:`modelyard.data.corpus.partitions.Partitions.hold`."""
        end = self._kept[-1].end if self._kept else 0
        self._kept = list(kept)
        if self._here and self._workers > 1 and (kept[-1].end if kept else 0) >= self._fewest:
            self._here, end = None, 0
            ray_cluster.connect()
            self._actors = [self._started(part) for part in range(self._workers)]
        if self._here:
            self._here.hold(kept)
            return
        self._all(lambda part: self._sent(part, end))

    def each(self, function: Callable[..., Answer], arguments: Sequence[tuple[Any, ...]]) -> list[Answer]:
        """As :meth:`modelyard.data.corpus.partitions.Partitions.each`."""
        if self._here:
            return self._here.each(function, arguments)
        return self._all(lambda part: self._actors[part].ask.remote(function, *arguments[part]))

    def close(self) -> None:
        """End the actors."""
        if self._actors:
            import ray

            for actor in self._actors:
                ray.kill(actor)
            self._actors = []

    def _all(self, send: Callable[[int], Any]) -> list[Any]:
        """The answers to what ``send`` sends to each part; a part that dies is built again and asked once more."""
        import ray

        answers = []
        for part, sent in enumerate([send(part) for part in range(self._workers)]):
            try:
                answers.append(ray.get(sent))
            except ray.exceptions.RayActorError:
                self._actors[part] = self._started(part)
                ray.get(self._sent(part, 0))
                answers.append(ray.get(send(part)))
        return answers

    def _sent(self, part: int, end: int) -> Any:
        """Send a part what it lacks from document ``end`` on."""
        import ray

        actor = self._actors[part]
        if self._shared_disk:
            return actor.hold.remote(self._kept)
        pieces = [ray.put(cut(one, part, self._workers)) for one in beyond(self._kept, end)]
        return actor.add.remote(self._kept[-1].end if self._kept else 0, *pieces)

    def _started(self, part: int) -> Any:
        import ray

        # A question takes milliseconds between blocks: no CPU is kept for it that the screen could use.
        remote = ray.remote(num_cpus=0, max_restarts=0, scheduling_strategy="SPREAD")(_Held)
        return remote.remote(part, self._workers)


class _Held:
    """One partition, as an actor."""

    def __init__(self, number: int, count: int) -> None:
        self.partition = Partition(number, count)

    def hold(self, kept: Sequence[Kept]) -> None:
        self.partition.hold(kept)

    def add(self, end: int, *pieces: Slice) -> None:
        for piece in pieces:
            if piece.kept.first >= self.partition.end:
                self.partition.add(on_disk(piece))
        assert self.partition.end == end, "a segment is missing"

    def ask(self, function: Callable[..., Answer], *given: Any) -> Answer:
        return function(self.partition, *given)
