"""Numbers on the command line that are refused outside their range, for ``argparse``'s ``type``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def between(low: float, high: float, *, ends: bool = True) -> Callable[[str], float]:
    """A number from ``low`` to ``high``, these two included where ``ends`` says so."""

    def number(text: str) -> float:
        value = float(text)
        if not (low <= value <= high if ends else low < value < high):
            raise argparse.ArgumentTypeError(
                f"{'must be from' if ends else 'must lie between'} {low:g} {'to' if ends else 'and'} {high:g}, got {text}"
            )
        return value

    return number


def at_least(low: float, kind: type[int] | type[float] = float) -> Callable[[str], float]:
    """A finite number of ``kind`` from ``low`` on."""

    def number(text: str) -> float:
        if not low <= (value := kind(text)) < math.inf:
            raise argparse.ArgumentTypeError(f"must be at least {low:g}, got {text}")
        return value

    return number
