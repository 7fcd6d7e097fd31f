"""What may not be asked and what may not be said: every text is judged before it leaves.

A stream is held back until a window of it has been judged together with what was said before; only then does the window go. So
the bytes that a client gets are bytes that were judged and passed, in a stream as in a whole answer. The judge is the release's content
classifier (:mod:`modelyard.posttrain.content_classifier`) with a threshold for each category, or, where it has none, the abuse model that the
data stage makes (:mod:`modelyard.formats.abuse`) with one for all. Left out: languages that the judge was not taught.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any, Protocol

from modelyard.formats.abuse import SIZES, STEP, Judgement
from modelyard.formats.harms import ANY

WINDOW = 8
"""Words that are judged, and then sent, together."""
CONTEXT = STEP * max(SIZES)
"""Words said before that they are judged with: the abuse model's longest passage."""
LONGEST = 96
"""Characters after which fewer words, or a part of one, go as well: base64 and Chinese have no spaces."""
LONGEST_CONTEXT = 10 * CONTEXT
"""Characters of the context."""
_ENDS = re.compile(r"(?<=\S)\s+")
r"""The space that ends a word. Looked for by itself because ``\S+\s+`` is tried from every character of a text without spaces."""
_LATIN = string.ascii_letters + string.digits


class TextJudge(Protocol):
    """Probabilities of harm of a text. Called from several threads."""

    @property
    def identity(self) -> str:
        """Hash of all that its answers depend on."""

    def judge(self, text: str) -> Judgement:
        """Of any harm, and of each category."""


class ContentFilter:
    """A judge and the probabilities from which on a text is held."""

    def __init__(self, model: TextJudge, threshold: float, thresholds: Mapping[str, float] = {}) -> None:
        """``thresholds``: category, or ``any`` -> probability, where ``threshold`` is not what holds it."""
        self.model, self.threshold, self.thresholds = model, threshold, thresholds

    def category(self, text: str) -> str | None:
        """What the text is held for: the category farthest above its threshold, else the likeliest; None where it passes."""
        found = self.model.judge(text)
        flags = self._flags(found)
        if not (flags or self._holds(ANY, found.any)):
            return None
        return max(flags or found.outputs, key=lambda name: found.outputs[name] / self._of(name) if flags else found.outputs[name])

    def moderation(self, text: str) -> dict[str, Any]:
        """One result of ``/v1/moderations``."""
        found = self.model.judge(text)
        flags = self._flags(found)
        categories = {name: name in flags for name in found.outputs}
        return {"flagged": bool(flags) or self._holds(ANY, found.any), "categories": categories, "category_scores": found.outputs}

    def _flags(self, found: Judgement) -> list[str]:
        return [name for name, value in found.outputs.items() if self._holds(name, value)]

    def _holds(self, name: str, value: float) -> bool:
        return value >= self._of(name)

    def _of(self, name: str) -> float:
        return self.thresholds.get(name, self.threshold)


class Held:
    """An answer on its way out."""

    def __init__(self, content_filter: ContentFilter | None) -> None:
        self.filter, self._waiting, self._context = content_filter, "", ""

    def take(self, text: str, last: bool) -> tuple[str, str | None]:
        """Add what was said; what may leave now, and the category for which nothing more may."""
        if self.filter is None:
            return text, None
        self._waiting += text
        ends = _ends(self._waiting)
        if not last and len(ends) < WINDOW and len(self._waiting) < LONGEST:
            return "", None
        end = len(self._waiting) if last else ends[-1] if ends else _whole(self._waiting)
        window, self._waiting = self._waiting[:end], self._waiting[end:]
        judged = self._context + window
        if category := self.filter.category(judged):
            return "", category
        self._context = _recent(judged)
        return window, None


def _ends(text: str) -> list[int]:
    """Where each whole word of a text ends, its space included."""
    return [found.end() for found in _ENDS.finditer(text)]


def _whole(text: str) -> int:
    """How much of a text without spaces goes: half a Latin word beside other characters may look like another word."""
    return len(text.rstrip(_LATIN)) or len(text)


def _recent(text: str) -> str:
    """The last words of a text that the next window is judged with; where they are too long, the last characters, from a word on if one begins."""
    ends = _ends(text)
    start = ends[-CONTEXT - 1] if len(ends) > CONTEXT else 0
    if (least := len(text) - LONGEST_CONTEXT) > start:
        start = next((end for end in ends if least <= end < least + LONGEST), least)
    return text[start:]
