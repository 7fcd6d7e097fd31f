"""Which rank holds up a collective that others stand in, by torch's flight recorder.

Every rank's recorder keeps its last collectives: group, sequence number in that group, state. A rank on a GPU queues them and goes on, so where
its Python stands says little; the recorders say who has not come as far as the others. A rank that waits may itself be waited for in another
group, so :func:`lagging` follows whom each waits for to the one that waits for nobody.
Source: ``torch/csrc/distributed/c10d/FlightRecorder.hpp`` (version 2.10 of the records); what ``torch.distributed.flight_recorder`` makes of
them in files afterwards, this does while the ranks hang, in memory. Left out: ranks that call different collectives under one number, and sizes
that differ. That a device has begun a collective NCCL's recorder knows only where ``TORCH_NCCL_ENABLE_TIMING`` is set.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ENTRIES = "2000"
"""Records that a rank keeps, where ``TORCH_FR_BUFFER_SIZE`` says nothing else."""
_PEER = re.compile(r"(?:send|recv) (\d+)(?:->|<-)(\d+)")
"""In the name of a point-to-point operation: this rank and the other one, as numbered in their group."""


class Waiting(NamedTuple):
    """The oldest operation of a rank that has not ended."""

    group: str
    """Name of the process group."""
    described: str
    """What the group is for, as whoever made it says."""
    name: str
    """Such as ``all_reduce``."""
    position: tuple[int, bool]
    """Sequence number in the group, and whether the device has begun it; (0, False) of one between two ranks."""
    others: tuple[int, ...]
    """Ranks without which it does not end."""


class Recorded(NamedTuple):
    """What the recorder of one rank says."""

    reached: Mapping[str, tuple[int, bool]]
    """Group -> position of its newest collective."""
    waiting: Waiting | None


class Lag(NamedTuple):
    """A rank that others wait for and that waits for none."""

    rank: int
    text: str
    """What it has not done, as a clause whose subject is the rank."""


def switch_on(backend: str) -> None:
    """Let the recorder run in this process, before its first group of ``backend``; what the environment says already stands."""
    if not {"TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"} & os.environ.keys():
        os.environ["TORCH_FR_BUFFER_SIZE"] = ENTRIES
    if backend == "nccl":  # a file each beside TORCH_FR_DUMP_TEMP_FILE, for who looks into a collective that timed out
        os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")


def recorded() -> Recorded | None:
    """What this process's recorder holds; None where torch has none. Any thread may ask; with NCCL it also asks the device."""
    dist: Any = importlib.import_module("torch.distributed")
    c10d: Any = importlib.import_module("torch._C._distributed_c10d")
    if not dist.is_initialized():
        return None
    dump = getattr(c10d, "_dump_nccl_trace_json" if dist.get_backend() == "nccl" else "_dump_fr_trace_json", None)
    if dump is None:
        return None
    world = dist.distributed_c10d._world
    groups = list(world.pg_group_ranks.items())  # those that this rank is not of have no name here
    members = {world.pg_names[group]: tuple(sorted(ranks)) for group, ranks in groups if group in world.pg_names}
    return read(json.loads(dump(True, False)), members, dist.get_rank())


def read(dump: Mapping[str, Any], members: Mapping[str, Sequence[int]], rank: int) -> Recorded:
    """What the ``dump`` of a rank's recorder says.

    Args:
        dump: as ``_dump_fr_trace_json`` gives it.
        members: group -> its ranks, in the group's order.
        rank: whose it is.
    """
    reached: dict[str, tuple[int, bool]] = {}
    waiting: dict[str, list[Mapping[str, Any]]] = {}
    for entry in dump.get("entries", ()):
        group, _ = entry["process_group"]
        if not entry["is_p2p"]:
            reached[group] = _position(entry)
        if entry["retired"] or entry["state"] == "completed":
            waiting[group] = []  # a group's operations end in their order
        else:
            waiting.setdefault(group, []).append(entry)
    oldest = min((entries[0] for entries in waiting.values() if entries), key=lambda entry: int(entry["record_id"]), default=None)
    return Recorded(reached, None if oldest is None else _waiting(oldest, members, rank))


def _position(entry: Mapping[str, Any]) -> tuple[int, bool]:
    return int(entry["collective_seq_id"]), entry["state"] != "scheduled"


def _waiting(entry: Mapping[str, Any], members: Mapping[str, Sequence[int]], rank: int) -> Waiting:
    group, described = entry["process_group"]
    ranks = members.get(group, ())
    words = entry["profiling_name"].partition(":")[2]
    if not entry["is_p2p"]:
        return Waiting(group, described, words, _position(entry), tuple(one for one in ranks if one != rank))
    peer = _PEER.fullmatch(words)
    others = (ranks[int(peer[2])],) if peer and int(peer[2]) < len(ranks) else ()
    return Waiting(group, described, words.partition(" ")[0], (0, False), others)


def lagging(recorders: Mapping[int, Recorded]) -> Lag | None:
    """The rank that the others wait for in the end, by the recorders of all ranks that still run; None where they tell of none.

    A rank waits for those of its collective's that have not come as far, and for the other rank of a send or receive unless that one waits for
    it in one too.
    """
    awaited = {rank: _awaited(rank, recorders) for rank in recorders}
    for start in sorted(recorders):
        seen, rank, before = {start}, start, start
        while awaited[rank] and (following := awaited[rank][0]) not in seen:
            seen.add(following)
            rank, before = following, rank
        if rank != start and not awaited[rank]:
            return Lag(rank, _text(rank, recorders[before].waiting, awaited, recorders))
    return None


def _awaited(rank: int, recorders: Mapping[int, Recorded]) -> list[int]:
    waiting = recorders[rank].waiting
    if waiting is None:
        return []
    there = [other for other in waiting.others if other in recorders]
    if waiting.position == (0, False):
        return [other for other in there if not _waits_for(recorders[other].waiting, rank)]
    return [other for other in there if recorders[other].reached.get(waiting.group, (0, False)) < waiting.position]


def _waits_for(waiting: Waiting | None, rank: int) -> bool:
    """Whether it is a send or receive with ``rank``."""
    return waiting is not None and waiting.position == (0, False) and waiting.others == (rank,)


def _text(rank: int, waiting: Waiting | None, awaited: Mapping[int, Sequence[int]], recorders: Mapping[int, Recorded]) -> str:
    assert waiting is not None
    sequence, begun = waiting.position
    number = f" {sequence}" if sequence else ""
    where = f"{waiting.name}{number} of group {waiting.group} ({waiting.described})"
    there = [other for other, whom in sorted(awaited.items()) if rank in whom and _same(recorders[other].waiting, waiting)]
    who = f"rank {there[0]} waits" if len(there) == 1 else f"ranks {', '.join(map(str, there))} wait"
    queued = begun and recorders[rank].reached.get(waiting.group, (0, False))[0] == sequence
    return f"{'has queued but not begun' if queued else 'has not come to'} {where}, where {who}"


def _same(one: Waiting | None, other: Waiting) -> bool:
    return one is not None and one[:4] == other[:4]
