"""Texts at which a completion ends while it is being generated.

What was generated is decoded as it grows, only as far back as a stop text reaches, and a hit is confirmed on the whole
text: a tail may decode otherwise at its first character. Left out: stop texts of more than a few dozen characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

MARGIN = 4
"""Tokens before a stop text that are decoded with it, for tokenizers that drop a space or half a character at the start."""


class StopTexts:
    """Stop texts and the tokenizer that spells them."""

    def __init__(self, texts: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        self.texts, self.decode = tuple(texts), decode
        self.reach = max((len(text.encode()) for text in texts), default=0) + MARGIN

    def within(self, tokens: Sequence[int], fresh: int) -> bool:
        """Whether a stop text ends in the last ``fresh`` tokens."""
        return self._in(tokens[-(self.reach + fresh) :]) and self._in(tokens)

    def length(self, tokens: Sequence[int]) -> int:
        """Number of tokens up to the one that completes the first stop text; all of them without one."""
        if not self.texts or not self._in(tokens):
            return len(tokens)
        return next((end for end in range(1, len(tokens)) if self.within(tokens[:end], 1)), len(tokens))

    def _in(self, tokens: Sequence[int]) -> bool:
        text = self.decode(tokens)
        return any(stop in text for stop in self.texts)
