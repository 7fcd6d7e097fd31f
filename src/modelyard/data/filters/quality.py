"""Quality rules after Gopher (Rae et al. 2021, arXiv:2112.11446, A1.1), C4 (Raffel et al. 2020, section 2.2)
and, for code, Codex (Chen et al. 2021, section 3.1), with thresholds per kind because the papers' are for web
pages: a review of nine words is a good review.

Words are counted as Gopher's rules count them, without punctuation: counting it (as some implementations do)
refuses most real text. Repeated lines and words are compared without case. Left out: stop-word and
terminal-punctuation rules, which sentences and docstrings fail for no fault; a trained quality classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.config import Config
from modelyard.data.corpus.document import Refusal
from modelyard.data.filters import native, words
from modelyard.data.filters.languages import LANGUAGES, notices
from modelyard.data.filters.lines import Layout
from modelyard.data.filters.tallies import sums, tallies
from modelyard.data.filters.words import Characters, Positions, Words

_LEAST_WORDS = 12
"""Fewer words prove no repetition."""
_LEAST_LINE = 4
"""Characters of a line that counts when it repeats."""


class QualityConfig(Config):
    """Thresholds for one kind of document."""

    min_words: int
    """Fewer words: too short."""
    max_chars: int
    """More characters: too long (a data table or a minified file)."""
    min_mean_word: float
    """Smallest mean word length in characters (Gopher: 3), of English."""
    max_mean_word: float
    """Largest mean word length (Gopher: 10), of English."""
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


class _Rule(NamedTuple):
    """One rule over a block."""

    name: str
    broken: npt.NDArray[np.bool_]
    """[documents]."""
    detail: Callable[[int], str]
    """What was measured in a document."""


def judge(
    texts: list[str], block: Characters, found: Words, layout: Layout, kind: str, config: QualityConfig, language: str
) -> list[Refusal | None]:
    """For each document of a block the first rule that it breaks, with the measured value.

    Args:
        texts: the documents.
        block: their characters.
        found: their words, with apostrophes.
        layout: their lines.
        kind: code is not asked for symbols and boilerplate.
        config: the thresholds.
        language: whose word length and notices are expected; of code, ``en``.
    """
    refusals: list[Refusal | None] = [None] * len(texts)
    rules = [*_sizes(block, found, layout, config, language), *_repetition(block, found, layout, config)]
    if kind != "code":
        rules += _web(texts, found, config, language)
    for rule in rules:
        for index in np.flatnonzero(rule.broken).tolist():
            refusals[index] = refusals[index] or Refusal(f"quality/{rule.name}", rule.detail(index))
    return refusals


def _sizes(block: Characters, found: Words, layout: Layout, config: QualityConfig, language: str) -> list[_Rule]:
    counts, characters = found.counts, np.diff(block.starts) - 1
    scale = LANGUAGES[language].scale
    mean = sums(np.concatenate([[0], np.cumsum(found.ends - found.starts)]), found.rows) / np.maximum(counts, 1)
    tally = tallies(block, found)
    alpha = tally.letters / np.maximum(tally.visible, 1)
    return [
        _Rule("too_short", counts < config.min_words, lambda i: f"{counts[i]:.3g} words"),
        _Rule("too_long", characters > config.max_chars, lambda i: f"{characters[i]} characters"),
        _Rule(
            "word_length",
            (mean < config.min_mean_word * scale) | (mean > config.max_mean_word * scale),
            lambda i: f"mean {mean[i]:.1f}",
        ),
        _Rule("few_letters", alpha < config.min_alpha, lambda i: f"{alpha[i]:.2f} of characters"),
        _Rule("long_line", layout.longest > config.max_line, lambda i: f"{layout.longest[i]} characters"),
    ]


def _repetition(block: Characters, found: Words, layout: Layout, config: QualityConfig) -> list[_Rule]:
    lines = layout.lines.where(layout.lines.ends - layout.lines.starts >= _LEAST_LINE)
    repeated = lines.character_share(lines.repeated(block))
    units = np.diff(found.rows)
    top, place = _top_word(found)
    share = top / np.maximum(units, 1)

    def word(index: int) -> str:
        at = place[index]
        text = block.codes[found.starts[at] : found.ends[at]].tobytes().decode("utf-32-le", "surrogatepass")
        return f"{text.lower()} {top[index]} of {units[index]}"

    return [
        _Rule("duplicate_lines", repeated > config.max_duplicate_lines, lambda i: f"{repeated[i]:.2f} of characters"),
        _Rule("repeated_word", (units >= _LEAST_WORDS) & (share > config.max_top_word), word),
    ]


def _web(texts: list[str], found: Words, config: QualityConfig, language: str) -> list[_Rule]:
    per_word = np.maximum(found.counts, 1)
    symbols = np.array([text.count("#") + text.count("\u2026") + text.count("...") for text in texts]) / per_word
    lower = [text.lower() for text in texts]
    phrase = [next((phrase for phrase in notices(language).page if phrase in text), "") for text in lower]
    return [
        _Rule("symbols", symbols > config.max_symbol_ratio, lambda i: f"{symbols[i]:.2f} per word"),
        _Rule("boilerplate", np.array(phrase) != "", lambda i: phrase[i]),
    ]


def _top_word(found: Words) -> tuple[Positions, Positions]:
    """(how often the most frequent word of each document occurs, index of its first occurrence; of several words the first)."""
    if native.available():
        return native.top_word(found.hashes, found.rows)
    key = words.keyed(found.hashes, found.documents)
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.concatenate([[True], key[order][1:] != key[order][:-1]])) if order.size else np.zeros(0, np.int64)
    counts = np.diff(np.concatenate([edges, [order.size]]))
    firsts = order[edges]
    top, first = np.zeros(found.rows.size - 1, np.int64), found.rows[:-1].copy()
    best = np.lexsort((-firsts, counts))
    documents = found.documents[firsts[best]]
    top[documents], first[documents] = counts[best], firsts[best]
    return top, first
