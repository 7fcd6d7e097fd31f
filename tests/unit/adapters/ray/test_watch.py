"""Which rank is blamed when a group stands still."""

import asyncio
import threading

import pytest
import torch

from modelyard.adapters.ray.flight_recorder import Recorded, Waiting
from modelyard.adapters.ray.mailbox import Mailbox
from modelyard.adapters.ray.watch import Place, Pulse, judge, place_of
from modelyard.model.network import devices

BUSY, WAITS = Place("read (file.py:3)", waiting=False), Place("all_reduce (distributed_c10d.py:9)", waiting=True)


def pulse(moved: float, heard: float = 1000.0, beats: int = 5, place: Place = WAITS, stepped: bool = True) -> Pulse:
    return Pulse(beats, stepped, moved, heard, place)


@pytest.mark.parametrize(
    ("pulses", "ranks", "blamed", "why"),
    [
        ({0: pulse(995), 1: pulse(950)}, 2, None, ""),  # rank 0 gets on
        ({0: pulse(985), 1: pulse(980)}, 2, None, ""),  # not for long enough
        ({0: pulse(960), 1: pulse(960, heard=961)}, 2, 1, "its process does not answer"),
        ({0: pulse(960), 1: pulse(961, place=BUSY)}, 2, 1, "it stands in read (file.py:3)"),
        ({0: pulse(960), 1: pulse(960, beats=4)}, 2, 1, "every rank waits, this one in all_reduce"),
        ({0: pulse(960)}, 1, 0, "every rank waits"),
        ({0: pulse(960), 1: pulse(960, stepped=False, place=BUSY)}, 2, 1, "it stands in read"),
        ({0: pulse(960, stepped=False), 1: pulse(960, stepped=False, place=BUSY)}, 2, None, ""),  # both are still importing
        ({0: pulse(660, stepped=False), 1: pulse(660, stepped=False, place=BUSY)}, 2, 1, "it stands in read"),
        ({1: pulse(960)}, 2, None, ""),  # rank 0 is still starting
        ({1: pulse(660)}, 2, 1, "it waits for 1 of 2 ranks that never began"),
        ({}, 2, None, ""),  # between two attempts
    ],
)
def test_judge_of_a_group_blames_the_rank_that_holds_it_up(pulses: dict[int, Pulse], ranks: int, blamed: int | None, why: str) -> None:
    verdict = judge(pulses, ranks, now=1000.0, hang_seconds=20.0)
    assert (verdict and verdict.rank) == blamed
    if verdict:
        assert verdict.cause.startswith(("no step for 39 s (", "no step for 40 s (", "no step for 340 s ("))
        assert why in verdict.cause


def test_pulse_moves_only_when_there_is_a_new_sign_of_life() -> None:
    began = Pulse(5, False, 10.0, 10.0, BUSY)
    first = began.later(5, BUSY, 15.0)  # beats of earlier jobs are no sign of life of this one
    assert first == Pulse(5, False, 10.0, 15.0, BUSY)
    assert first.later(5, WAITS, 20.0) == Pulse(5, False, 10.0, 20.0, WAITS)
    assert first.later(6, BUSY, 20.0) == Pulse(6, True, 20.0, 20.0, BUSY)


def test_place_of_a_thread_is_its_innermost_function() -> None:
    entered, leave = threading.Event(), threading.Event()

    def stands_here() -> None:
        entered.set()
        leave.wait()

    thread = threading.Thread(target=stands_here)
    thread.start()
    entered.wait()
    place = place_of(thread.ident or 0)
    leave.set()
    thread.join()
    assert not place.waiting
    assert place.text.startswith(("wait (threading.py:", "stands_here (test_ray_watch.py:"))
    assert place_of(thread.ident or 0).text == "its thread has ended"


BEHIND = Recorded({"0": (41, False)}, None)
AHEAD = Recorded({"0": (42, False)}, Waiting("0", "default_pg", "all_reduce", (42, False), (0, 1)))
SAYS = "it has not come to all_reduce 42 of group 0 (default_pg), where rank 0 waits; it stands in"


@pytest.mark.parametrize(
    ("pulses", "recorders", "blamed", "why"),
    [
        (
            {0: pulse(960, place=BUSY), 1: pulse(960, place=BUSY)},
            {0: AHEAD, 1: BEHIND},
            1,
            f"{SAYS} read (file.py:3)",
        ),  # both on their GPUs
        ({0: pulse(960), 1: pulse(960)}, {0: AHEAD, 1: BEHIND}, 1, f"{SAYS} all_reduce (distributed_c10d.py:9)"),  # not the lowest number
        ({0: pulse(960, heard=961), 1: pulse(960)}, {0: AHEAD, 1: BEHIND}, 0, "its process does not answer"),
        ({0: pulse(960), 1: pulse(960, place=BUSY)}, {0: AHEAD, 1: AHEAD}, 1, "it stands in read"),  # the recorders blame nobody
        ({0: pulse(960), 1: pulse(960, beats=4)}, {0: AHEAD}, 1, "every rank waits, this one"),
        ({0: pulse(960), 2: pulse(960, beats=4)}, {0: AHEAD, 1: BEHIND}, 2, "every rank waits, this one"),  # rank 1 has finished
        ({0: pulse(995), 1: pulse(960)}, {0: AHEAD, 1: BEHIND}, None, ""),  # rank 0 gets on
    ],
)
def test_judge_blames_the_rank_that_the_recorders_show_behind(pulses, recorders, blamed: int | None, why: str) -> None:
    verdict = judge(pulses, len(pulses), 1000.0, 20.0, recorders)
    assert (verdict and verdict.rank) == blamed
    assert verdict is None or why in verdict.cause


def test_mailbox_forgets_a_recorder_when_its_rank_gets_on() -> None:
    async def tell() -> list[set[int]]:
        mailbox = Mailbox(2, 20.0)
        for rank in range(2):
            await mailbox.begin(rank, None, 3)
        await mailbox.record(0, 1, 3, AHEAD)
        await mailbox.record(1, 1, 2, BEHIND)  # of before its last sign of life
        await mailbox.record(1, 2, 3, BEHIND)  # of another attempt
        held = [set(mailbox.recorders)]
        await mailbox.pulse(0, 1, 3, WAITS)
        held.append(set(mailbox.recorders))
        await mailbox.pulse(0, 1, 4, WAITS)
        return [*held, set(mailbox.recorders)]

    assert asyncio.run(tell()) == [{0}, {0}, set()]


def test_rank_that_fetches_numbers_from_its_device_waits() -> None:
    """As the optimizer's norm on CUDA, which is there once the other ranks have reduced theirs; here a tensor that takes its time."""
    entered, leave = threading.Event(), threading.Event()

    class Slow(torch.Tensor):
        def tolist(self):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=lambda: devices.on_host(torch.ones(1).as_subclass(Slow)))
    thread.start()
    entered.wait()
    place = place_of(thread.ident or 0)
    leave.set()
    thread.join()
    assert place.waiting
