"""Gopher's quality and repetition rules (Rae et al. 2021, arXiv:2112.11446, appendix A1.1), measured for a whole batch of documents at once.

Shares of characters are of the characters in words; an n-gram that occurs once is no repetition. Duplicate n-grams count what repeats an earlier
occurrence, each character once. A word of duplicate (n+1)-grams is a word of duplicate n-grams, so n-grams are looked for only where shorter ones
repeat: that makes the longer ones nearly free. Left out: rules for languages without spaces.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.config import Config
from modelyard.data.corpus.document import Refusal
from modelyard.data.filters import words
from modelyard.data.filters.words import LETTER, SPACE, Characters, Positions, Words

Shares = npt.NDArray[np.float64]
_BULLETS = np.array([ord(char) for char in "\u2022\u2023\u25b6\u25c0\u25e6\u25a0\u25a1\u25aa\u25ab\u2013-*"], np.uint32)
_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


class GopherConfig(Config):
    """Thresholds; the paper's numbers in brackets."""

    min_words: int
    """Fewest words (50)."""
    max_words: int
    """Most words (100,000)."""
    min_mean_word: float
    """Smallest mean word length (3)."""
    max_mean_word: float
    """Largest mean word length (10)."""
    max_symbols: float
    """Most ``#`` and most ellipses per word (0.1)."""
    max_bullet_lines: float
    """Largest share of lines that begin with a bullet (0.9)."""
    max_ellipsis_lines: float
    """Largest share of lines that end with an ellipsis (0.3)."""
    min_letter_words: float
    """Smallest share of words with a letter (0.8)."""
    min_stop_words: int
    """Fewest different words of: the, be, to, of, and, that, have, with (2)."""
    max_duplicate_lines: float
    """Largest share of lines that repeat an earlier one (0.3)."""
    max_duplicate_line_characters: float
    """Largest share of characters in such lines (0.2)."""
    max_duplicate_paragraphs: float
    """Largest share of paragraphs that repeat an earlier one (0.3)."""
    max_duplicate_paragraph_characters: float
    """Largest share of characters in such paragraphs (0.2)."""
    max_top_ngram: list[float]
    """Largest share of characters in the most frequent 2-, 3- and 4-gram (0.20, 0.18, 0.16)."""
    max_duplicate_ngrams: list[float]
    """Largest share of characters in duplicate 5- to 10-grams (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)."""


class _Ratio(NamedTuple):
    name: str
    values: Shares
    low: float
    high: float


def refuse(texts: list[str], config: GopherConfig) -> list[Refusal | None]:
    """For each text the first rule that it breaks, with the measured value."""
    refusals: list[Refusal | None] = [None] * len(texts)
    for begin, block in words.blocks(texts):
        for rule in measure(block, config):
            for index in np.flatnonzero((rule.values < rule.low) | (rule.values > rule.high)).tolist():
                refusals[begin + index] = refusals[begin + index] or Refusal(f"gopher/{rule.name}", f"{rule.values[index]:.3g}")
    return refusals


def measure(block: Characters, config: GopherConfig) -> list[_Ratio]:
    """Every rule's measurement of every document of a block, in the order in which they refuse."""
    found = words.words(block, apostrophes=True)
    count = np.diff(found.rows)
    lengths = found.ends - found.starts
    letters = np.maximum(_sums(lengths, found.rows), 1)
    per_word = np.maximum(count, 1)
    top = [
        _Ratio(f"top_{n}_gram", share, 0, high)
        for n, share, high in zip((2, 3, 4), _top(found, lengths), config.max_top_ngram, strict=True)
    ]
    duplicate = _duplicate_ngrams(found, lengths, len(config.max_duplicate_ngrams))
    lines, paragraphs = _spans(block, 1), _spans(block, 2)
    return [
        _Ratio("word_count", count.astype(float), config.min_words, config.max_words),
        _Ratio("word_length", letters / per_word, config.min_mean_word, config.max_mean_word),
        _Ratio("hashes", _per_document(block, block.codes == ord("#")) / per_word, 0, config.max_symbols),
        _Ratio("ellipses", _per_document(block, _ellipses(block)) / per_word, 0, config.max_symbols),
        _Ratio("bullet_lines", lines.share(_begins_with_bullet(block, lines)), 0, config.max_bullet_lines),
        _Ratio("ellipsis_lines", lines.share(_ends_with_ellipsis(block, lines)), 0, config.max_ellipsis_lines),
        _Ratio("letter_words", _letter_words(block, found) / per_word, config.min_letter_words, 1),
        _Ratio("stop_words", _stop_words(found), config.min_stop_words, np.inf),
        _Ratio("duplicate_lines", lines.share(lines.repeated(block)), 0, config.max_duplicate_lines),
        _Ratio("duplicate_line_characters", lines.character_share(block), 0, config.max_duplicate_line_characters),
        _Ratio("duplicate_paragraphs", paragraphs.share(paragraphs.repeated(block)), 0, config.max_duplicate_paragraphs),
        _Ratio("duplicate_paragraph_characters", paragraphs.character_share(block), 0, config.max_duplicate_paragraph_characters),
        *top,
        *(
            _Ratio(f"duplicate_{n}_grams", share / letters, 0, high)
            for n, share, high in zip(range(5, 11), duplicate, config.max_duplicate_ngrams, strict=False)
        ),
    ]


class _Spans(NamedTuple):
    """Lines or paragraphs without surrounding space, empty ones left out."""

    starts: Positions
    ends: Positions
    documents: Positions
    size: int
    """Documents of the block."""

    def share(self, chosen: npt.NDArray[np.bool_]) -> Shares:
        """Share of chosen spans in each document."""
        total = np.bincount(self.documents, minlength=self.size)
        return np.bincount(self.documents, chosen, self.size) / np.maximum(total, 1)

    def repeated(self, block: Characters) -> npt.NDArray[np.bool_]:
        """Whether a span repeats an earlier one of its document."""
        return words.seen_before(words.spans(block, self.starts, self.ends), self.documents) == words.AGAIN

    def character_share(self, block: Characters) -> Shares:
        """Share of characters in repeated spans."""
        lengths = self.ends - self.starts
        total = np.bincount(self.documents, lengths, self.size)
        return np.bincount(self.documents, lengths * self.repeated(block), self.size) / np.maximum(total, 1)


def _spans(block: Characters, newlines: int) -> _Spans:
    """Runs of text between at least ``newlines`` line ends."""
    ink = np.flatnonzero((block.kinds & SPACE) == 0)
    if not ink.size:
        empty = np.zeros(0, np.int64)
        return _Spans(empty, empty, empty, block.starts.size - 1)
    line_ends = np.cumsum(block.codes == ord("\n"))
    gap = line_ends[ink[1:]] - line_ends[ink[:-1]]
    document = np.searchsorted(block.starts, ink, side="right") - 1
    cut = np.flatnonzero((gap >= newlines) | (document[1:] != document[:-1]))
    starts = np.concatenate([ink[:1], ink[cut + 1]])
    ends = np.concatenate([ink[cut], ink[-1:]]) + 1
    return _Spans(starts, ends, np.searchsorted(block.starts, starts, side="right") - 1, block.starts.size - 1)


def _top(found: Words, lengths: Positions) -> list[Shares]:
    """Share of characters in the most frequent 2-, 3- and 4-gram of each document."""
    documents, letters = found.documents, np.maximum(_sums(lengths, found.rows), 1)
    sizes = np.concatenate([[0], np.cumsum(lengths)])
    result = []
    repeated = np.ones(found.hashes.size, bool)
    for n in (2, 3, 4):
        hashes, starts = words.ngrams(found, n)
        likely = repeated[starts] & repeated[np.minimum(starts + 1, repeated.size - 1)] if n > 2 else np.ones(starts.size, bool)
        hashes, starts = hashes[likely], starts[likely]
        key = words.keyed(hashes, documents[starts])
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.concatenate([[True], key[order][1:] != key[order][:-1]])) if key.size else np.zeros(0, np.int64)
        counts = np.diff(np.concatenate([edges, [key.size]]))
        first = starts[order[edges]]
        characters = (sizes[first + n] - sizes[first]) * counts * (counts > 1)
        share = np.zeros(found.rows.size - 1)
        np.maximum.at(share, documents[first], characters)
        result.append(np.minimum(share / letters, 1.0))
        repeated = np.zeros(found.hashes.size, bool)
        repeated[starts[order[np.repeat(counts > 1, counts)]]] = True
    return result


def _duplicate_ngrams(found: Words, lengths: Positions, how_many: int) -> list[Shares]:
    """Characters in 5-, 6-, ... grams that repeat an earlier one, for each document."""
    documents = found.documents
    result = []
    covered = np.ones(found.hashes.size, bool)
    for n in range(5, 5 + how_many):
        hashes, starts = words.ngrams(found, n)
        inside = np.concatenate([[0], np.cumsum(covered)])
        likely = np.flatnonzero(inside[starts + n] - inside[starts] == n) if n > 5 else np.arange(starts.size)
        again = words.seen_before(hashes[likely], documents[starts[likely]])
        depth = np.zeros(found.hashes.size + 1, np.int64)
        np.add.at(depth, starts[likely[again >= words.FIRST]], 1)
        np.add.at(depth, starts[likely[again >= words.FIRST]] + n, -1)
        covered = np.cumsum(depth)[:-1] > 0
        later = np.zeros(found.hashes.size + 1, np.int64)
        np.add.at(later, starts[likely[again == words.AGAIN]], 1)
        np.add.at(later, starts[likely[again == words.AGAIN]] + n, -1)
        result.append(_sums(lengths * (np.cumsum(later)[:-1] > 0), found.rows).astype(float))
    return result


def _sums(values: Positions, rows: Positions) -> Positions:
    total = np.concatenate([[0], np.cumsum(values)])
    return total[rows[1:]] - total[rows[:-1]]


def _per_document(block: Characters, chosen: npt.NDArray[np.bool_]) -> Positions:
    return np.diff(np.searchsorted(np.flatnonzero(chosen), block.starts))


def _ellipses(block: Characters) -> npt.NDArray[np.bool_]:
    """Where an ellipsis ends: the character, or three dots."""
    dot = block.codes == ord(".")
    ends = block.codes == 0x2026
    ends[2:] |= dot[2:] & dot[1:-1] & dot[:-2] & ~np.concatenate([[False], dot[:-3]])
    return ends


def _begins_with_bullet(block: Characters, lines: _Spans) -> npt.NDArray[np.bool_]:
    return np.isin(block.codes[lines.starts], _BULLETS)


def _ends_with_ellipsis(block: Characters, lines: _Spans) -> npt.NDArray[np.bool_]:
    last, codes = lines.ends - 1, block.codes
    dots = (codes[last] == ord(".")) & (codes[np.maximum(last - 1, 0)] == ord(".")) & (codes[np.maximum(last - 2, 0)] == ord("."))
    return (codes[last] == 0x2026) | (dots & (last - lines.starts >= 2))


def _letter_words(block: Characters, found: Words) -> Positions:
    total = np.concatenate([[0], np.cumsum((block.kinds & LETTER) != 0)])
    return _sums((total[found.ends] > total[found.starts]).astype(np.int64), found.rows)


def _stop_words(found: Words) -> Shares:
    """How many different stop words each document has."""
    wanted = words.words(words.characters([" ".join(_STOP_WORDS)])).hashes
    documents = found.documents
    present = np.zeros(found.rows.size - 1)
    for value in wanted.tolist():
        held = np.zeros(present.size, bool)
        held[documents[found.hashes == np.uint64(value)]] = True
        present += held
    return present
