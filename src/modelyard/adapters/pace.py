"""How fast a stage gets on, over the last half minute rather than since its start, and how long it has left.

A stage starts slowly (imports, compilation) and a resumed one starts in the middle, so an average over the whole of it is wrong twice. Until
there is enough to tell, there is no rate and no time left.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 30.0
SETTLED_SECONDS = 3.0
"""Before so much time has passed between two reports nothing is said."""


class Pace:
    """Takes reports of progress; says units a second and seconds left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._unit = ""
        self._seen: deque[tuple[float, float]] = deque()

    def add(self, done: float, unit: str) -> None:
        """Take a report. Another unit, or less than before, is another part of the stage and begins anew."""
        now = self._clock()
        if unit != self._unit or (self._seen and done < self._seen[-1][1]):
            self._unit = unit
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """Units a second of late; None where it cannot be told yet."""
        if not self._seen:
            return None
        (first, before), (last, done) = self._seen[0], self._seen[-1]
        return (done - before) / (last - first) if last - first >= SETTLED_SECONDS and done > before else None

    @property
    def shown(self) -> str:
        """The rate as people read it: ``17.4k token/s``, or ``4.2 s/step`` where a unit takes longer than a second; "" without one."""
        rate = self.rate
        if rate is None:
            return ""
        return f"{short(rate)} {self._unit}/s" if rate >= 1 else f"{short(1 / rate)} s/{self._unit}"

    def left(self, total: float) -> float | None:
        """Seconds until ``total`` units are done, at this rate; None without one, or where the total is not known."""
        rate = self.rate
        ahead = total - self._seen[-1][1] if self._seen else -1.0
        return ahead / rate if rate and ahead >= 0 else None


def short(number: float) -> str:
    """At most three digits and a magnitude: ``840``, ``17.4k``, ``1.43M``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
