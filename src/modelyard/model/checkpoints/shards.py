"""Cuts of sharded tensors that follow no grid: what one replica, of several that hold the same weights, has to write and to read.

The distributed optimizer gives each replica a run of elements of its flat buffer (Rajbhandari et al. 2019, stage 1). A run within a row-major
tensor is a few boxes of it, and a box is what torch's distributed checkpoints store and read at any layout; so no rank ever needs a tensor whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from torch import Tensor


class Box(NamedTuple):
    """A box of a tensor: its first index and its extent on every axis."""

    offset: tuple[int, ...]
    sizes: tuple[int, ...]


def boxes(shape: Sequence[int], start: int, stop: int) -> Iterator[Box]:
    """Elements ``start`` to ``stop`` of a row-major tensor as boxes, in their order; at most 2 n - 1 of them for n axes."""
    if start >= stop:
        return
    if len(shape) < 2:
        yield Box((start,)[: len(shape)], (stop - start,)[: len(shape)])
        return
    row = prod(shape[1:])
    first, last = -(-start // row), stop // row  # whole rows
    if first > last:
        yield from _in_row(shape, last, start - last * row, stop - last * row)
        return
    yield from _in_row(shape, first - 1, start - (first - 1) * row, row)
    if first < last:
        yield Box((first, *(0 for _ in shape[1:])), (last - first, *shape[1:]))
    yield from _in_row(shape, last, 0, stop - last * row)


def _in_row(shape: Sequence[int], number: int, start: int, stop: int) -> Iterator[Box]:
    for box in boxes(shape[1:], start, stop):
        yield Box((number, *box.offset), (1, *box.sizes))


def run_of(entry: Any, flat: Tensor, start: int, replica: int, prefix: str = "") -> list[Any]:
    """Elements of the sharded tensor (or factory of some) ``entry`` from ``start`` on, as many as are in ``flat`` [n], as sharded tensors.

    They are views of ``flat``, and their keys begin with ``prefix``. ``replica`` is their number among those with the same run; 0 is saved.
    """
    parts: list[Any] = []
    for piece, begin in _pieces(entry):
        first, last = max(start, begin), min(start + flat.numel(), begin + prod(piece.local_shape))
        if first < last:
            parts += _cut(piece, flat[first - start : last - start], first - begin, replica, prefix)
    return parts


def shared_out(entries: Mapping[str, Any], replicas: Callable[[str], int]) -> dict[str, Any]:
    """This rank's share of the weights ``entries``, each of which ``replicas(name)`` ranks hold: of all of them in a row an equal run.

    Weights that another tensor-parallel rank or pipeline stage writes are left out.
    """
    entries = {name: entry for name, entry in entries.items() if not any(entry.replica_id[:2])}
    totals: dict[int, int] = {}
    for name, entry in entries.items():
        totals[replicas(name)] = totals.get(replicas(name), 0) + entry.data.numel()
    shares: dict[str, Any] = {}
    passed = dict.fromkeys(totals, 0)
    for name, entry in entries.items():
        count, size = replicas(name), entry.data.numel()
        total, rank, begin = totals[count], entry.replica_id[-1], passed[count]
        passed[count] += size
        start, stop = (min(max(total * end // count - begin, 0), size) for end in (rank, rank + 1))
        run = run_of(entry, entry.data.detach().reshape(-1)[start:stop], start, 0)
        shares |= {f"{name}.{number}": part for number, part in enumerate(run)}
    return shares


def _pieces(entry: Any) -> list[tuple[Any, int]]:
    """The sharded tensors of ``entry``, each with the place of its first element in the whole."""
    from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory

    if not isinstance(entry, ShardedTensorFactory):
        return [(entry, 0)]
    pieces = entry.build()
    assert all(piece.data.is_contiguous() for piece in pieces), f"{entry.key} is made of parts that are no runs of it"
    return [(piece, piece.data.storage_offset() - entry.data.storage_offset()) for piece in pieces]


def _cut(piece: Any, flat: Tensor, start: int, replica: int, prefix: str) -> Iterator[Any]:
    """The boxes of ``piece`` whose elements from ``start`` on are ``flat``."""
    from megatron.core.dist_checkpointing.mapping import ShardedTensor

    added = piece.prepend_axis_num  # axes that the whole has before those of the piece, such as layers
    done = 0
    for box in boxes(piece.local_shape, start, start + flat.numel()):
        sizes = ((1,) * added) + box.sizes
        yield ShardedTensor(
            key=f"{prefix}{piece.key}",
            data=flat[done : done + prod(sizes)].view(sizes),
            dtype=flat.dtype,
            local_shape=sizes,
            global_shape=piece.global_shape,
            global_offset=tuple(a + b for a, b in zip(piece.global_offset, (0,) * added + box.offset, strict=True)),
            axis_fragmentations=None,
            replica_id=(*piece.replica_id[:2], replica),
            allow_shape_mismatch=piece.allow_shape_mismatch,
        )
        done += prod(sizes)
