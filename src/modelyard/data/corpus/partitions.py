"""The index of a corpus's kept documents in parts that answer at the same time, wherever they are: what the look-up of duplicates asks.

One part in this process is the case of a single machine; :mod:`modelyard.adapters.ray.partitions` has them on workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from modelyard.data.filters.partition import Partition
from modelyard.data.filters.seen import Kept

Answer = TypeVar("Answer")


class Partitions(Protocol):
    """The index of a corpus's kept documents, in parts that answer at the same time."""

    @property
    def count(self) -> int:
        """How many parts there are; it may change when more is held."""

    def hold(self, kept: Sequence[Kept]) -> None:
        """Add to the index what of ``kept``, all segments so far in order, it lacks."""

    def each(self, function: Callable[..., Answer], arguments: Sequence[tuple[Any, ...]]) -> list[Answer]:
        """``function(partition, *arguments)`` for each part with its own arguments, in order."""


OpenPartitions = Callable[[], AbstractContextManager[Partitions]]
"""Opens an empty index; what it needs is given back in the end."""


class LocalPartitions:
    """The :class:`Partitions` of this process alone, by default the whole index as one part."""

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._parts = [Partition(part, count) for part in range(count)]

    def hold(self, kept: Sequence[Kept]) -> None:
        """As :meth:`Partitions.hold`."""
        for part in self._parts:
            part.hold(kept)

    def each(self, function: Callable[..., Answer], arguments: Sequence[tuple[Any, ...]]) -> list[Answer]:
        """As :meth:`Partitions.each`."""
        return [function(part, *given) for part, given in zip(self._parts, arguments, strict=True)]


@contextmanager
def in_process(count: int = 1) -> Iterator[Partitions]:
    """An :data:`OpenPartitions` without workers."""
    yield LocalPartitions(count)
