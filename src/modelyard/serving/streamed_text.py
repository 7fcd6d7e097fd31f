"""Text that may leave while tokens still come: never half a character, never the beginning of a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a decoder shows for bytes that are no whole character yet."""


class StreamedText:
    """What a growing list of tokens spells, handed out piece by piece; the pieces together are the text up to the first stop."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str]) -> None:
        self.decode, self.stops = decode, tuple(stops)
        self.sent = 0
        """Characters that were handed out."""

    def grown(self, tokens: Sequence[int], last: bool) -> tuple[str, bool]:
        """What ``tokens``, all so far, add to what was handed out, and whether a stop text was met; with ``last`` nothing is kept back."""
        text = self.decode(tokens)
        ends = [end for stop in self.stops if (end := text.find(stop)) >= 0]
        if ends:
            return self._hand_out(text, min(ends)), True
        return self._hand_out(text, len(text) if last else len(text) - self._withheld(text)), False

    def _hand_out(self, text: str, end: int) -> str:
        piece = text[self.sent : end]
        self.sent = max(self.sent, end)
        return piece

    def _withheld(self, text: str) -> int:
        """Characters at the end that may yet become another character, or a stop text."""
        unfinished = len(text) - len(text.rstrip(UNFINISHED))
        longest = max((len(stop) for stop in self.stops), default=1) - 1
        begun = next((n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in self.stops)), 0)
        return max(unfinished, begun)
