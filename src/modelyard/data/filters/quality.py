"""Quality rules after Gopher (Rae et al. 2021, arXiv:2112.11446, A1.1), C4 (Raffel et al. 2020, section 2.2) and, for
code, Codex (Chen et al. 2021, section 3.1), with thresholds per kind because the papers' are for web pages: a review of
nine words is a good review.

Words are maximal runs of letters, digits and apostrophes; counting punctuation as words (as some implementations do)
refuses most real text. Left out: stop-word and terminal-punctuation rules, which sentences and docstrings fail for no
fault; a trained quality classifier.
"""

from __future__ import annotations

import re
from collections import Counter

from modelyard.config import Config
from modelyard.data.corpus.document import Refusal

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


class QualityConfig(Config):
    """Thresholds for one kind of document."""

    min_words: int
    """Fewer words: too short."""
    max_chars: int
    """More characters: too long (a data table or a minified file)."""
    min_mean_word: float
    """Smallest mean word length in characters (Gopher: 3)."""
    max_mean_word: float
    """Largest mean word length (Gopher: 10)."""
    min_alpha: float
    """Smallest share of letters among characters that are no whitespace."""
    max_symbol_ratio: float
    """Most ``#`` and ellipses per word (Gopher: 0.1)."""
    max_duplicate_lines: float
    """Largest share of characters in repeated lines (Gopher: 0.3)."""
    max_top_word: float
    """Largest share of one word among at least 12 words."""
    max_line: int
    """Longest line in characters (Codex: 1000)."""


def refuse(text: str, kind: str, config: QualityConfig) -> Refusal | None:
    """The first rule that the text breaks, with the measured value."""
    words = _WORD.findall(text)
    if len(words) < config.min_words:
        return Refusal("quality/too_short", f"{len(words)} words")
    if len(text) > config.max_chars:
        return Refusal("quality/too_long", f"{len(text)} characters")
    mean = sum(map(len, words)) / len(words)
    if not config.min_mean_word <= mean <= config.max_mean_word:
        return Refusal("quality/word_length", f"mean {mean:.1f}")
    visible = sum(map(len, text.split()))
    alpha = sum(map(str.isalpha, text)) / max(1, visible)
    if alpha < config.min_alpha:
        return Refusal("quality/few_letters", f"{alpha:.2f} of characters")
    if (longest := max(map(len, text.split("\n")))) > config.max_line:
        return Refusal("quality/long_line", f"{longest} characters")
    return _repetition(text, words, config) or (None if kind == "code" else _web(text, words, config))


def _repetition(text: str, words: list[str], config: QualityConfig) -> Refusal | None:
    lines = [line.strip() for line in text.split("\n") if len(line.strip()) > 3]
    repeated = sum(len(line) * (count - 1) for line, count in Counter(lines).items()) / max(1, sum(map(len, lines)))
    if repeated > config.max_duplicate_lines:
        return Refusal("quality/duplicate_lines", f"{repeated:.2f} of characters")
    if len(words) >= 12:
        word, count = Counter(map(str.lower, words)).most_common(1)[0]
        if count / len(words) > config.max_top_word:
            return Refusal("quality/repeated_word", f"{word} {count} of {len(words)}")
    return None


def _web(text: str, words: list[str], config: QualityConfig) -> Refusal | None:
    symbols = (text.count("#") + text.count("\u2026") + text.count("...")) / len(words)
    if symbols > config.max_symbol_ratio:
        return Refusal("quality/symbols", f"{symbols:.2f} per word")
    lower = text.lower()
    for phrase in ("lorem ipsum", "enable javascript", "terms of use", "cookie policy"):
        if phrase in lower:
            return Refusal("quality/boilerplate", phrase)
    return None
