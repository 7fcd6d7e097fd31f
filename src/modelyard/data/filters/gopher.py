"""Gopher's quality and repetition rules (Rae et al. 2021, arXiv:2112.11446, appendix A1.1), measured for a
whole batch of documents at once.

Shares of characters are of the characters in words; an n-gram that occurs once is no repetition. Duplicate
n-grams count what repeats an earlier occurrence, each character once. A word of duplicate (n+1)-grams is a
word of duplicate n-grams, so n-grams are looked for only where shorter ones repeat: that makes the longer
ones nearly free. Bounds on word length are scaled to the language's, its own stop words are asked for, and
where no spaces are written words are counted by characters (:mod:`modelyard.data.filters.words`). Left out:
thresholds tuned per language.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from pydantic import Field

from modelyard.config import Config
from modelyard.data.corpus.document import Refusal
from modelyard.data.filters import native, words
from modelyard.data.filters.languages import LANGUAGES
from modelyard.data.filters.lines import Chosen, Layout, Shares, Spans, layout
from modelyard.data.filters.tallies import sums, tallies
from modelyard.data.filters.words import Characters, Hashes, Positions, Words

_BULLETS = np.array([ord(char) for char in "\u2022\u2023\u25b6\u25c0\u25e6\u25a0\u25a1\u25aa\u25ab\u2013-*"], np.uint32)


class GopherConfig(Config):
    """Thresholds; the paper's numbers in brackets."""

    min_words: int
    """Fewest words (50)."""
    max_words: int
    """Most words (100,000)."""
    min_mean_word: float
    """Smallest mean word length (3), of English."""
    max_mean_word: float
    """Largest mean word length (10), of English."""
    max_symbols: float
    """Most ``#`` and most ellipses per word (0.1)."""
    max_bullet_lines: float
    """Largest share of lines that begin with a bullet (0.9)."""
    max_ellipsis_lines: float
    """Largest share of lines that end with an ellipsis (0.3)."""
    min_letter_words: float
    """Smallest share of words with a letter (0.8)."""
    min_stop_words: int
    """Fewest different stop words of the language (2; of English: the, be, to, of, and, that, have, with)."""
    max_duplicate_lines: float
    """Largest share of lines that repeat an earlier one (0.3)."""
    max_duplicate_line_characters: float
    """Largest share of characters in such lines (0.2)."""
    max_duplicate_paragraphs: float
    """Largest share of paragraphs that repeat an earlier one (0.3)."""
    max_duplicate_paragraph_characters: float
    """Largest share of characters in such paragraphs (0.2)."""
    max_top_ngram: list[float] = Field(min_length=3, max_length=3)
    """Largest share of characters in the most frequent 2-, 3- and 4-gram (0.20, 0.18, 0.16)."""
    max_duplicate_ngrams: list[float]
    """Largest share of characters in duplicate 5- to 10-grams (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)."""


class _Ratio(NamedTuple):
    name: str
    values: Shares
    low: float
    high: float


def refuse(texts: list[str], config: GopherConfig, language: str = "en") -> list[Refusal | None]:
    """For each text of a language the first rule that it breaks, with the measured value."""
    refusals: list[Refusal | None] = []
    for _, block in words.blocks(texts):
        refusals += judge(block, words.words(block, apostrophes=True, unspaced=True), layout(block), config, language)
    return refusals


def judge(block: Characters, found: Words, lines: Layout, config: GopherConfig, language: str) -> list[Refusal | None]:
    """:func:`refuse` for a block that is counted already."""
    refusals: list[Refusal | None] = [None] * (block.starts.size - 1)
    for rule in measure(block, found, lines, config, language):
        for index in np.flatnonzero((rule.values < rule.low) | (rule.values > rule.high)).tolist():
            refusals[index] = refusals[index] or Refusal(f"gopher/{rule.name}", f"{rule.values[index]:.3g}")
    return refusals


def measure(block: Characters, found: Words, layout: Layout, config: GopherConfig, language: str) -> list[_Ratio]:
    """Every rule's measurement of every document of a block in one language, in the order of refusal."""
    counts = tallies(block, found)
    sizes = np.concatenate([[0], np.cumsum(found.ends - found.starts)])
    letters = np.maximum(sums(sizes, found.rows), 1)
    per_word, per_unit = np.maximum(found.counts, 1), np.maximum(np.diff(found.rows), 1)
    scale = LANGUAGES[language].scale
    top = [
        _Ratio(f"top_{n}_gram", share, 0, high) for n, share, high in zip((2, 3, 4), _top(found, sizes), config.max_top_ngram, strict=True)
    ]
    duplicate = _duplicate_ngrams(found, sizes, len(config.max_duplicate_ngrams))
    lines, paragraphs = layout.lines, layout.paragraphs
    again, again_paragraphs = lines.repeated(block), paragraphs.repeated(block)
    return [
        _Ratio("word_count", found.counts, config.min_words, config.max_words),
        _Ratio("word_length", letters / per_word, config.min_mean_word * scale, config.max_mean_word * scale),
        _Ratio("hashes", counts.number_signs / per_word, 0, config.max_symbols),
        _Ratio("ellipses", counts.ellipses / per_word, 0, config.max_symbols),
        _Ratio("bullet_lines", lines.share(_begins_with_bullet(block, lines)), 0, config.max_bullet_lines),
        _Ratio("ellipsis_lines", lines.share(_ends_with_ellipsis(block, lines)), 0, config.max_ellipsis_lines),
        _Ratio("letter_words", counts.lettered / per_unit, config.min_letter_words, 1),
        _Ratio("stop_words", _stop_words(block, found, language), config.min_stop_words, np.inf),
        _Ratio("duplicate_lines", lines.share(again), 0, config.max_duplicate_lines),
        _Ratio("duplicate_line_characters", lines.character_share(again), 0, config.max_duplicate_line_characters),
        _Ratio("duplicate_paragraphs", paragraphs.share(again_paragraphs), 0, config.max_duplicate_paragraphs),
        _Ratio(
            "duplicate_paragraph_characters",
            paragraphs.character_share(again_paragraphs),
            0,
            config.max_duplicate_paragraph_characters,
        ),
        *top,
        *(
            _Ratio(f"duplicate_{n}_grams", share / letters, 0, high)
            for n, share, high in zip(range(5, 11), duplicate, config.max_duplicate_ngrams, strict=False)
        ),
    ]


def _top(found: Words, sizes: Positions) -> list[Shares]:
    """Share of characters in the most frequent 2-, 3- and 4-gram of each document; ``sizes`` are the characters before each word."""
    letters = np.maximum(sums(sizes, found.rows), 1)
    if native.available():
        return list(np.minimum(native.top_ngrams(found.hashes, sizes, found.rows, found.steps) / letters, 1.0))
    result = []
    repeated = np.ones(found.hashes.size, bool)
    for n in (2, 3, 4):
        hashes, starts = words.ngrams(found, n)
        after = starts + found.widths(starts, 1)
        likely = repeated[starts] & repeated[np.minimum(after, repeated.size - 1)] if n > 2 else np.ones(starts.size, bool)
        key = words.keyed(hashes[likely], found.documents[starts[likely]])
        chosen = words.likely_repeated(key)
        key, starts = key[chosen], starts[likely][chosen]
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.concatenate([[True], key[order][1:] != key[order][:-1]])) if key.size else np.zeros(0, np.int64)
        counts = np.diff(np.concatenate([edges, [key.size]]))
        first = starts[order[edges]]
        characters = (sizes[first + found.widths(first, n)] - sizes[first]) * counts * (counts > 1)
        share = np.zeros(found.rows.size - 1)
        np.maximum.at(share, found.documents[first], characters)
        result.append(np.minimum(share / letters, 1.0))
        repeated = np.zeros(found.hashes.size, bool)
        repeated[starts[order[np.repeat(counts > 1, counts)]]] = True
    return result


def _duplicate_ngrams(found: Words, sizes: Positions, how_many: int) -> list[Shares]:
    """Characters in 5-, 6-, ... grams that repeat an earlier one, for each document."""
    if native.available():
        return list(native.duplicate_ngrams(found.hashes, sizes, found.rows, found.steps, how_many).astype(float))
    result = []
    covered = np.ones(found.hashes.size, bool)
    for n in range(5, 5 + how_many):
        hashes, starts = _inside(found, n, covered) if n > 5 else words.ngrams(found, n)
        again = words.seen_before(hashes, found.documents[starts])
        repeats, later = starts[again >= words.FIRST], starts[again == words.AGAIN]
        covered = words.covered(found, repeats, n)
        characters = np.diff(sizes) * words.covered(found, later, n)
        result.append(sums(np.concatenate([[0], np.cumsum(characters)]), found.rows).astype(float))
    return result


def _inside(found: Words, n: int, covered: Chosen) -> tuple[Hashes, Positions]:
    """The n-grams all of whose words are covered."""
    if not covered.any():
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    hashes, starts = words.ngrams(found, n)
    inside = np.concatenate([[0], np.cumsum(covered)])
    widths = found.widths(starts, n)
    likely = inside[starts + widths] - inside[starts] == widths
    return hashes[likely], starts[likely]


def _begins_with_bullet(block: Characters, lines: Spans) -> Chosen:
    return np.isin(block.codes[lines.starts], _BULLETS)


def _ends_with_ellipsis(block: Characters, lines: Spans) -> Chosen:
    last, codes = lines.ends - 1, block.codes
    dots = (codes[last] == ord(".")) & (codes[np.maximum(last - 1, 0)] == ord(".")) & (codes[np.maximum(last - 2, 0)] == ord("."))
    return (codes[last] == 0x2026) | (dots & (last - lines.starts >= 2))


def _stop_words(block: Characters, found: Words, language: str) -> Shares:
    """How many different stop words of the language each document has."""
    rules = LANGUAGES[language]
    if native.available() and rules.found_as == "words":
        return native.present(found.hashes, found.rows, np.array(_hashes(rules.stop), np.uint64)).astype(float)
    present = np.zeros(found.rows.size - 1)
    for stop, hash_ in zip(rules.stop, _hashes(rules.stop), strict=True):
        if rules.found_as == "words":
            documents = found.documents[found.hashes == hash_]
        elif rules.found_as == "ends":
            ends = found.ends[found.ends - found.starts >= len(stop)]
            at = ends[words.spans(block, ends - len(stop), ends) == hash_]
            documents = np.searchsorted(block.starts, at, side="right") - 1
        else:
            starts = np.arange(max(block.codes.size - len(stop) + 1, 0))
            at = starts[words.spans(block, starts, starts + len(stop)) == hash_]
            documents = np.searchsorted(block.starts, at, side="right") - 1
        present += np.bincount(documents, minlength=present.size) > 0
    return present


@cache
def _hashes(stop: tuple[str, ...]) -> list[np.uint64]:
    block = words.characters(list(stop))
    return list(words.spans(block, block.starts[:-1], block.starts[1:] - 1))
