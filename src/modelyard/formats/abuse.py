"""How abusive is a text? The model that the data stage makes, as a value in a file (``abuse.npz`` of the corpus).

Below the stages because two of them score with it: data refuses documents, evals counts toxic completions, and stages never import each
other. Every word and every pair of neighbouring words adds its weight to the log-odds of each output; the sum of a window is divided by
the root of its words' summed squared inverse document frequencies (the norm of TF-IDF without the square of repeated words). A text scores
as its worst window, so what surrounds an abusive passage does not dilute it. Where the weights come from, and what they are worth, is the
data stage's business (``data.filters.abuse``). Left out: other alphabets, spelling tricks beyond the lexicon's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from modelyard.complaint import complaint

BITS = 20
STEP = 25
"""Words from one window to the next."""
SIZES = (2, 4)
"""Steps in a window: passages are short and long."""
FILE = "abuse.npz"
REPORT = "abuse.json"
"""What it learned from and what was measured of it, beside the model."""
WORD = re.compile(rb"[a-z0-9$@*]+")
"""Of lower-case text in UTF-8, in which no other character shares these bytes."""
PLAIN = re.compile(r"[a-z']+")
_LEET = str.maketrans("013457@$!", "oieastasi")

Buckets = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


def lower(text: str) -> bytes:
    """A text as :data:`WORD` finds words in it."""
    return text.lower().encode("utf-8", "replace")


def codes(text: str) -> npt.NDArray[np.uint64]:
    """[words] 32 bits of each word of a text; crc32 because Python's hash changes from process to process."""
    words = WORD.findall(lower(text))
    return np.fromiter(map(crc32, words), np.int64, len(words)).view(np.uint64)


def singles(found: npt.NDArray[np.uint64]) -> Buckets:
    """Bucket of each word, [words]."""
    return (found >> np.uint64(32 - BITS)).astype(np.int64)


def pairs(found: npt.NDArray[np.uint64]) -> Buckets:
    """Bucket of each word with the next one, [words - 1] (none of no word)."""
    mixed = (found[:-1] * np.uint64(0x9E3779B97F4A7C15) + found[1:]) * np.uint64(0xD6E8FEB86659FD93)
    return (mixed >> np.uint64(64 - BITS)).astype(np.int64)


def _cumulated(values: npt.NDArray[np.float32]) -> Reals:
    """Sums of the first 0, 1, ... rows, in fp64: windows are their differences."""
    return np.concatenate([np.zeros_like(values[:1], np.float64), np.cumsum(values, 0, np.float64)])


class Judgement(NamedTuple):
    """Probabilities of one text."""

    any: float
    """One minus the product of the outputs' complements, in the window where that is largest."""
    outputs: dict[str, float]
    """Of each output, in the worst window for it."""


@dataclass(frozen=True)
class AbuseModel:
    """The trained model and its lexicon."""

    words: frozenset[str]
    """Lexicon, lower case."""
    outputs: tuple[str, ...]
    """What it tells apart: categories of harm, or ``offensive`` alone."""
    buckets: Buckets
    """[rows] bucket of each row; the first row stands for every other bucket."""
    weights: npt.NDArray[np.float32]
    """[rows, outputs] added to the log-odds."""
    squares: npt.NDArray[np.float32]
    """[rows] squared inverse document frequency of a word."""
    bias: npt.NDArray[np.float32]
    """[outputs] log-odds of nothing."""
    origin: str
    """What it learned from, in words for reports and cards."""

    @cached_property
    def _rows(self) -> npt.NDArray[np.int32]:
        rows = np.zeros(1 << BITS, np.int32)
        rows[self.buckets[1:]] = np.arange(1, self.buckets.size, dtype=np.int32)
        return rows

    def codes(self, text: str) -> npt.NDArray[np.uint64]:
        """As :func:`codes`."""
        return codes(text)

    def log_odds(self, text: str) -> Reals:
        """[windows, outputs]; no window where the text has no word."""
        found = self.codes(text)
        if not found.size:
            return np.zeros((0, len(self.outputs)))
        rows = self._rows[singles(found)]
        totals, squares = self.weights[rows], self.squares[rows]
        neighbours = self._rows[pairs(found)]
        known = np.flatnonzero(neighbours)  # one pair in ten
        totals[known] += self.weights[neighbours[known]]
        starts = np.arange(0, found.size, STEP)
        sums, norms = _cumulated(np.add.reduceat(totals, starts)), _cumulated(np.add.reduceat(squares, starts))
        windows = [
            (sums[size:] - sums[:-size]) / np.sqrt(np.maximum(norms[size:] - norms[:-size], 1e-9))[:, None]
            for size in sorted({min(size, starts.size) for size in SIZES})
        ]
        return np.asarray(np.concatenate(windows) + self.bias)

    def judge(self, text: str) -> Judgement:
        """Probabilities of abuse; all 0 for a text without a word."""
        scores = self.log_odds(text)
        if not scores.size:
            return Judgement(0.0, dict.fromkeys(self.outputs, 0.0))
        with np.errstate(over="ignore"):  # infinite odds are a probability of 1
            odds = np.exp(scores)
            any_, each = 1 - 1 / (1 + odds).prod(1).max(), 1 - 1 / (1 + odds.max(0))
        return Judgement(float(any_), dict(zip(self.outputs, each.tolist(), strict=True)))

    def probability(self, text: str) -> float:
        """That the text is abusive in any way."""
        return self.judge(text).any

    def word(self, text: str) -> str | None:
        """The first lexicon word of the text, as written or with digits read as letters."""
        lower = text.lower()
        for form in (lower, lower.translate(_LEET)):
            for token in PLAIN.findall(form):
                for word in (token, token.strip("'")):  # quotes around a word are no part of it, but for a word that is listed with them
                    if word in self.words:
                        return str(word)
        return None

    @property
    def identity(self) -> str:
        """sha256 (hex) of all that its answers depend on."""
        hasher = sha256()
        for array in (self.buckets, self.weights, self.squares, self.bias):
            hasher.update(array.tobytes())
        hasher.update("\n".join([*sorted(self.words), "", *self.outputs, str((BITS, STEP, SIZES, WORD.pattern))]).encode())
        return hasher.hexdigest()

    def save(self, directory: Path) -> None:
        """Write ``abuse.npz``."""
        words, outputs = (np.array(group, dtype=np.str_) for group in (sorted(self.words), self.outputs))
        np.savez_compressed(
            directory / FILE,
            words=words,
            outputs=outputs,
            buckets=self.buckets,
            weights=self.weights,
            squares=self.squares,
            bias=self.bias,
            origin=np.str_(self.origin),
        )


def load(directory: Path) -> AbuseModel:
    """Read ``abuse.npz``; raises ValueError when it is not there or is no such file."""
    path = directory / FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the corpus carries the abuse model that toxicity is judged by")
    try:
        with np.load(path, allow_pickle=False) as stored:
            words, outputs = ([str(word) for word in stored[key]] for key in ("words", "outputs"))
            weights, squares, bias = (stored[key].astype(np.float32) for key in ("weights", "squares", "bias"))
            buckets = stored["buckets"].astype(np.int64)
            if weights.shape != (buckets.size, len(outputs)) or squares.shape != buckets.shape or bias.shape != (len(outputs),):
                raise ValueError("its arrays do not fit together")
            if not buckets.size or (buckets[1:].size and not 0 <= buckets[1:].min() <= buckets[1:].max() < 1 << BITS):
                raise ValueError("a bucket is out of range")
            return AbuseModel(frozenset(words), tuple(outputs), buckets, weights, squares, bias, str(stored["origin"]))
    except Exception as error:  # numpy and zipfile raise a dozen types for damaged bytes
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {complaint(error)})") from None
