"""Who is alive in a worker group: every rank sends a pulse, and a group in which no rank gets on has one rank to blame.

A thread of each rank sends how many signs of life it has given (:func:`modelyard.progress.beats`), where its training thread stands and whether
it waits for other ranks there; once it stands still, also what torch's flight recorder says (:mod:`.flight_recorder`). A stopped process sends
nothing any more, so the judgement is made outside the ranks. :func:`judge` is pure.
Left out: a kernel that hangs on one GPU behind a collective that every rank has queued is told from the others only where the recorder knows
what has begun (``TORCH_NCCL_ENABLE_TIMING``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from modelyard.adapters.ray.flight_recorder import Recorded, lagging

# Code in which a rank does nothing but wait for others.
WAITING = ("torch/distributed/", "megatron/core/pipeline_parallel/p2p_communication")
# What waits for a device, and so for the collectives that are queued there: (file, function).
DEVICE = ("modelyard/model/network/devices.py", "on_host")
PULSES_A_TIMEOUT = 5
LONGEST_PULSE_SECONDS = 2.0
# Before its first sign of life a rank imports, builds its model and reads a checkpoint: less than this is no hang.
START_SECONDS = 300.0


class Place(NamedTuple):
    """Where a thread stands."""

    text: str
    """``function (file.py:line)`` of the innermost frame."""
    waiting: bool
    """Whether it waits for other ranks."""


class Pulse(NamedTuple):
    """The last that was heard of a rank; times are seconds on the listener's clock."""

    beats: int
    stepped: bool
    """Whether there was a sign of life in this attempt."""
    moved_at: float
    """When ``beats`` last changed (or the rank began)."""
    heard_at: float
    place: Place

    def later(self, beats: int, place: Place, now: float) -> Pulse:
        """After another pulse at ``now``."""
        moved = beats != self.beats
        return Pulse(beats, self.stepped or moved, now if moved else self.moved_at, now, place)


class Verdict(NamedTuple):
    """The rank that hangs and why it is this one."""

    rank: int
    cause: str


def pulse_seconds(hang_seconds: float) -> float:
    """Seconds between two pulses of a rank (0 seconds never hang, and pulses then only bring the request to stop back)."""
    return min(LONGEST_PULSE_SECONDS, hang_seconds / PULSES_A_TIMEOUT) if hang_seconds else LONGEST_PULSE_SECONDS


def place_of(thread: int) -> Place:
    """Where the thread with this identifier stands now."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return Place("its thread has ended", False)
    text = f"{frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
    waiting, above = False, frame
    while not waiting and above is not None:
        waiting = _waits(above)
        above = _caller(above)
    return Place(text, waiting)


def _waits(frame: FrameType) -> bool:
    file, function = DEVICE
    code = frame.f_code
    return any(part in code.co_filename for part in WAITING) or (code.co_filename.endswith(file) and code.co_name == function)


def _caller(frame: FrameType) -> FrameType:
    return frame.f_back  # type: ignore[return-value]


def judge(
    pulses: Mapping[int, Pulse], ranks: int, now: float, hang_seconds: float, recorders: Mapping[int, Recorded] = {}
) -> Verdict | None:
    """The rank to blame when none of ``ranks`` unfinished ranks has given a sign of life for ``hang_seconds``; None while any gets on.

    As long as none has stepped at all, the limit is at least ``START_SECONDS``.
    ``pulses`` are those of the unfinished ranks that began, ``recorders`` what the flight recorders of those that stand still hold. Blamed is, in
    this order: a rank whose process is silent, one that the recorders show behind the others, one that does not wait for others, the one with the
    fewest signs of life. Some ranks that begin while others never do are also a hang.
    """
    moved = [pulse.moved_at for pulse in pulses.values()]
    started = len(pulses) == ranks and any(pulse.stepped for pulse in pulses.values())
    if not moved or now - max(moved) <= (hang_seconds if started else max(hang_seconds, START_SECONDS)):
        return None
    seconds = f"no step for {now - max(moved):.0f} s"
    if len(pulses) < ranks:
        return Verdict(min(pulses), f"{seconds} (it waits for {ranks - len(pulses)} of {ranks} ranks that never began)")
    rank, pulse = min(pulses.items(), key=lambda item: item[1].heard_at)
    if now - pulse.heard_at > hang_seconds / 2:
        return Verdict(rank, f"{seconds} (its process does not answer)")
    if lag := lagging({rank: recorder for rank, recorder in recorders.items() if rank in pulses}):
        return Verdict(lag.rank, f"{seconds} (it {lag.text}; it stands in {pulses[lag.rank].place.text})")
    rank, pulse = min(pulses.items(), key=lambda item: (item[1].place.waiting, item[1].beats, item[0]))
    where = f"every rank waits, this one in {pulse.place.text}" if pulse.place.waiting else f"it stands in {pulse.place.text}"
    return Verdict(rank, f"{seconds} ({where})")
