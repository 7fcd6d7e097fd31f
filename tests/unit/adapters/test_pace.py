"""The pace of a stage, on a clock that the test moves."""

from __future__ import annotations

import pytest

from modelyard.adapters.pace import Pace


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def paced(*reports: tuple[float, float], unit: str = "step") -> Pace:
    """A pace after reports of (time, done)."""
    clock = Clock()
    pace = Pace(clock)
    for clock.now, done in reports:
        pace.add(done, unit)
    return pace


def test_pace_is_that_of_the_last_half_minute() -> None:
    slow_then_fast = paced((0, 0), (100, 10), (130, 40), (160, 100))
    assert slow_then_fast.rate == pytest.approx(2.0)
    assert slow_then_fast.left(200) == pytest.approx(50.0)


def test_pace_of_a_resumed_stage_does_not_count_what_was_done_before() -> None:
    resumed = paced((0, 900), (10, 910))
    assert resumed.shown == "1 step/s"
    assert resumed.left(1000) == pytest.approx(90.0)


@pytest.mark.parametrize("reports", [(), ((0, 0),), ((0, 0), (2, 5)), ((0, 5), (60, 5))])
def test_pace_says_nothing_before_it_knows(reports: tuple[tuple[float, float], ...]) -> None:
    unknown = paced(*reports)
    assert (unknown.rate, unknown.shown, unknown.left(100)) == (None, "", None)


def test_pace_of_slow_units_is_seconds_a_unit() -> None:
    assert paced((0, 0), (21, 5)).shown == "4.2 s/step"
    assert paced((0, 0), (10, 174_000), unit="token").shown == "17.4k token/s"


def test_pace_begins_anew_with_another_part_of_the_stage() -> None:
    clock = Clock()
    pace = Pace(clock)
    for clock.now, done, unit in ((0, 0, "step"), (10, 100, "step"), (11, 0, "row"), (12, 10, "row")):
        pace.add(done, unit)
    assert pace.rate is None
    clock.now = 21
    pace.add(50, "row")
    assert pace.rate == pytest.approx(5.0)
