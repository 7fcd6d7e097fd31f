"""Numbers on the command line that are refused outside their range, as callbacks of typer's options.

Typer's own ``min`` and ``max`` let NaN through and have no open interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import typer


def between(low: float, high: float, *, ends: bool = True) -> Callable[[float | None], float | None]:
    """A number from ``low`` to ``high``, these two included where ``ends`` says so; None is an option not given."""

    def check(value: float | None) -> float | None:
        if value is not None and not (low <= value <= high if ends else low < value < high):
            words = ("be from", "to") if ends else ("lie between", "and")
            raise typer.BadParameter(f"must {words[0]} {low:g} {words[1]} {high:g}, got {shown(value)}")
        return value

    return check


def at_least(low: float) -> Callable[[float | None], float | None]:
    """A finite number from ``low`` on; None is an option not given."""

    def check(value: float | None) -> float | None:
        if value is not None and not low <= value < math.inf:
            raise typer.BadParameter(f"must be at least {low:g}, got {shown(value)}")
        return value

    return check


def shown(value: float) -> str:
    """The number, an integer that no float holds by its beginning."""
    try:
        return f"{value:g}"
    except OverflowError:
        return f"{str(value)[:20]}..."
