"""What may not be asked and what may not be said: every text is judged before it leaves.

A stream is held back until a window of it has been judged together with what was said before; only then does the window go. So
the bytes that a client gets are bytes that were judged and passed, in a stream as in a whole answer. The judge is the abuse model
that the line's data stage makes (:mod:`modelyard.formats.abuse`). Left out: a classifier on the model's own representations, other languages
than the abuse model knows.
"""

from __future__ import annotations

import re
from typing import Any

from modelyard.formats.abuse import SIZES, STEP, AbuseModel

WINDOW = 8
"""Words that are judged, and then sent, together."""
CONTEXT = STEP * max(SIZES)
"""Words said before that they are judged with: the abuse model's longest passage."""
_WORDS = re.compile(r"\S+\s+")
"""Whole words: behind each of them stands the space that ends it."""


class ContentFilter:
    """An abuse model and the probability from which on a text is held."""

    def __init__(self, model: AbuseModel, threshold: float) -> None:
        self.model, self.threshold = model, threshold

    def category(self, text: str) -> str | None:
        """What the text is held for: the output of the highest probability; None where it passes."""
        found = self.model.judge(text)
        return max(found.outputs, key=lambda name: found.outputs[name]) if found.any >= self.threshold else None

    def moderation(self, text: str) -> dict[str, Any]:
        """One result of ``/v1/moderations``."""
        found = self.model.judge(text)
        flags = {name: value >= self.threshold for name, value in found.outputs.items()}
        return {"flagged": found.any >= self.threshold, "categories": flags, "category_scores": found.outputs}


class Held:
    """An answer on its way out."""

    def __init__(self, content_filter: ContentFilter | None) -> None:
        self.filter, self._waiting, self._context = content_filter, "", ""

    def take(self, text: str, last: bool) -> tuple[str, str | None]:
        """Add what was said; what may leave now, and the category for which nothing more may."""
        if self.filter is None:
            return text, None
        self._waiting += text
        words = list(_WORDS.finditer(self._waiting))
        if not last and len(words) < WINDOW:
            return "", None
        end = len(self._waiting) if last else words[-1].end()
        window, self._waiting = self._waiting[:end], self._waiting[end:]
        judged = self._context + window
        if category := self.filter.category(judged):
            return "", category
        spoken = list(_WORDS.finditer(judged))
        self._context = judged[spoken[-CONTEXT].start() :] if len(spoken) > CONTEXT else judged
        return window, None
