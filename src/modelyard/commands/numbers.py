"""Numbers on the command line that are refused outside their range, as callbacks of typer's options.

Typer's own ``min`` and ``max`` let NaN through and have no open interval.
"""

from __future__ import annotations

import math
import re
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


def share_or_number(value: float | None) -> float | None:
    """A share between 0 and 1, or a whole number; None is an option not given."""
    if value is not None and not (0 < value < 1 or (1 <= value < math.inf and value == int(value))):
        raise typer.BadParameter(f"must be a whole number from 1 on, or a share between 0 and 1, got {shown(value)}")
    return value


_UNITS = {
    unit: factor
    for power, letter in enumerate("KMGTPE", 1)
    for unit, factor in ((f"{letter}B", 1000.0**power), (f"{letter}IB", 1024.0**power))
} | {"": 1.0, "B": 1.0}


def size(text: str) -> float:
    """Bytes of ``100TB``, ``5 GiB`` or ``1000``; a parser of typer's options."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:[eE]\+?\d{1,2})?)\s*([A-Za-z]*)\s*", text, re.ASCII)
    if match is None or match[2].upper() not in _UNITS or not 0 < (value := float(match[1]) * _UNITS[match[2].upper()]) <= 1e21:
        raise typer.BadParameter(f"must be a size such as 100TB or 5GiB, above 0 and at most 1 ZB, got {text[:20]!r}")
    return value


def shown(value: float) -> str:
    """The number, an integer that no float holds by its beginning."""
    try:
        return f"{value:g}"
    except OverflowError:
        return f"{str(value)[:20]}..."
