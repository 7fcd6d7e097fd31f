"""Which rank is blamed when a group stands still."""

import threading

import pytest

from modelyard.adapters.ray.watch import Place, Pulse, judge, place_of

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
