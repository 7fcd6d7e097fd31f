"""Which ranks share a disk: what one writes, another may have to be sent.

Ranks of one machine share theirs. Those of several machines are asked what they read in their scratch directory
(:mod:`modelyard.store.disk`), once a world.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch.distributed as dist

from modelyard.store import disk

_found: tuple[int, list[str]] | None = None
"""World, and the disk of each of its ranks."""


def arrange(scratch: Path) -> None:
    """Find out who shares this rank's disk; every rank calls it, with its own scratch directory."""
    global _found
    world, size = id(dist.group.WORLD), dist.get_world_size()
    if _found is not None and _found[0] == world:
        return
    names = [""] * size
    if int(os.environ.get("LOCAL_WORLD_SIZE", size)) < size:
        dist.all_gather_object(names, disk.identity(scratch))
    _found = world, names


def is_shared() -> bool:
    """Whether all ranks have one disk."""
    return len(set(_names())) <= 1


def place() -> tuple[int, int]:
    """This rank's number among those on its disk, and how many they are."""
    names = _names()
    own = names[dist.get_rank()]
    return names[: dist.get_rank()].count(own), names.count(own)


def is_first() -> bool:
    """Whether this rank is the first of those on its disk, which does there what has to be done once."""
    return place()[0] == 0


def is_that_of_rank_0() -> bool:
    """Whether this rank's disk is rank 0's."""
    names = _names()
    return names[dist.get_rank()] == names[0]


def _names() -> list[str]:
    if _found is not None and _found[0] == id(dist.group.WORLD):
        return _found[1]
    return [""] * dist.get_world_size()
