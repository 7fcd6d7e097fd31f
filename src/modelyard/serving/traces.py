"""Where the time of an answer went, for whoever keeps traces: the prompt filter, waiting, decoding, the answer filter.

A trace names the answer by its receipt and the weights, never what was said, unless its user agreed that it is kept; then personal
data is redacted as in the book. It is handed to a :class:`Tracer` when the answer is over. Left out: traces of requests that were
refused (``/metrics`` counts those) and of a shadow's answers, which nobody gets.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

PROMPT_FILTER, WAITING, DECODING, ANSWER_FILTER = "prompt filter", "waiting", "decoding", "answer filter"


class Phase(NamedTuple):
    """A part of an answer's time."""

    name: str
    begun: float
    """Seconds since the epoch, like ``ended``."""
    ended: float
    attributes: Mapping[str, str | int | float]


class Texts(NamedTuple):
    """What was said, without personal data."""

    prompt: Any
    """A text, or messages as dicts."""
    reply: str


class AnswerTrace(NamedTuple):
    """One answer that is over."""

    receipt: str
    begun: float
    ended: float
    phases: Sequence[Phase]
    prompt_tokens: int
    new_tokens: int
    failed: bool
    attributes: Mapping[str, str | int | float]
    """Model, version, weights, finish reason and what else is known of it."""
    texts: Texts | None
    """None where its user did not agree that they are kept."""


class Tracer(Protocol):
    """Keeps traces. Its methods return at once and never raise: no answer waits for it."""

    def send(self, trace: AnswerTrace) -> None:
        """Keep a trace."""

    def forget(self, receipts: Sequence[str]) -> None:
        """Remove the traces of these answers: their user does not agree any more."""


class Timeline:
    """The clock of one answer; begins with its request. Instants are ``time.monotonic``'s."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self._epoch = time.time() - self.begun
        self._prompt_filter: tuple[float, float] | None = None
        self._judged: list[tuple[float, float]] = []
        self.first_text: float | None = None
        """Seconds from the request to the first text; None before."""

    def prompt_judged(self, begun: float) -> None:
        """The prompt filter looked from ``begun`` until now."""
        self._prompt_filter = begun, time.monotonic()

    def window_judged(self, begun: float) -> None:
        """The answer filter looked at a window from ``begun`` until now."""
        self._judged.append((begun, time.monotonic()))

    def text(self) -> bool:
        """Some text leaves; whether it is the first."""
        first = self.first_text is None
        if first:
            self.first_text = self.seconds
        return first

    @property
    def seconds(self) -> float:
        """From the request until now."""
        return time.monotonic() - self.begun

    def at(self, instant: float) -> float:
        """Seconds since the epoch."""
        return self._epoch + instant

    def phases(self, submitted: float, entered: float | None, decoded: float | None, ended: float) -> list[Phase]:
        """The phases that there were, the filters only where one looked; ``decoded``: when its row was free again."""
        waited = ended if entered is None else entered
        spans: list[tuple[str, float, float, Mapping[str, str | int | float]]] = []
        if self._prompt_filter:
            spans.append((PROMPT_FILTER, *self._prompt_filter, {}))
        spans.append((WAITING, submitted, waited, {}))
        if entered is not None:
            spans.append((DECODING, entered, ended if decoded is None else decoded, {}))
        if self._judged:
            busy = sum(end - begun for begun, end in self._judged)
            told = {"windows": len(self._judged), "busy_seconds": round(busy, 6)}
            spans.append((ANSWER_FILTER, self._judged[0][0], self._judged[-1][1], told))
        return [Phase(name, self.at(begun), self.at(end), told) for name, begun, end, told in spans]
