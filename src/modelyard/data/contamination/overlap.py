"""The procedure of the GPT-4 Technical Report (appendix C) for overlap between benchmarks and training text, seeded.

Items and documents are stripped to letters and digits; three random substrings of 50 characters are drawn from each item (the whole item when it
is shorter), with replacement; an item is contaminated when any of them is a substring of a document. Question and context only, never the answer.
Case is kept: the report removes "all spaces and symbols" and says no more. Like the report's, this check has false positives (common phrases) and
negatives (paraphrases). An item without a letter or digit cannot be judged: it is counted apart and is not among the contaminated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from modelyard.config import Config
from modelyard.data.contamination.ngram_overlap import NgramMatch, Ngrams
from modelyard.data.contamination.substrings import Finder
from modelyard.data.filters.words import ALNUM, kinds_of

_ASCII_DROPPED = bytes(code for code in range(128) if not chr(code).isalnum())
_BATCH = 1 << 20
_NEVER = np.iinfo(np.int64).max


class ContaminationConfig(Config):
    """The procedure's numbers."""

    seed: int
    """Of the draws."""
    substrings: int
    """Substrings drawn from an item (GPT-4: 3)."""
    length: int = Field(ge=1)
    """Characters of a substring (GPT-4: 50)."""
    ngram: int = Field(ge=1)
    """Words of the second opinion's n-grams (GPT-3: 13)."""


class Match(NamedTuple):
    """A contaminated item."""

    item: int
    """Index in the benchmark."""
    document: int
    """Index of the first document that holds any of the item's substrings."""
    substring: str
    """What was found there, stripped."""


class Overlap(NamedTuple):
    """What one pass over the documents found out about one benchmark."""

    matches: list[Match]
    """Contaminated items in order."""
    ngrams: list[NgramMatch]
    """Items that the second opinion calls contaminated, in order."""
    unjudged: int
    """Items too short for the second opinion."""
    documents: frozenset[int]
    """Every document that holds a drawn substring."""
    by_length: frozenset[int]
    """Those of them that hold one of full length; the others hold nothing but a short item."""
    short: int
    """Items shorter than a substring, searched as a whole."""
    empty: int
    """Items without a letter or digit."""


def strip(text: str) -> str:
    """Letters and digits only, of any script."""
    return stripped(text).decode("utf-8", "surrogatepass")


def stripped(text: str) -> bytes:
    """:func:`strip`, as UTF-8."""
    if text.isascii():
        return text.encode("ascii").translate(None, _ASCII_DROPPED)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kept = codes[(kinds_of(codes) & ALNUM) != 0]
    return kept.tobytes().decode("utf-32-le", "surrogatepass").encode("utf-8", "surrogatepass")


def draw(item: str, index: int, config: ContaminationConfig) -> list[str]:
    """The substrings of a stripped item; a function of (seed, index, length of the item) alone."""
    if len(item) <= config.length:
        return [item]
    starts = np.random.default_rng([config.seed, index]).integers(0, len(item) - config.length + 1, config.substrings)
    return [item[start : start + config.length] for start in starts.tolist()]


def check(benchmarks: list[list[str]], documents: Iterable[str], config: ContaminationConfig) -> list[Overlap]:
    """Overlap of several benchmarks with the documents, in one pass over them."""
    drawn = [[[s for s in draw(strip(item), index, config) if s] for index, item in enumerate(items)] for items in benchmarks]
    number_of = {s: n for n, s in enumerate(dict.fromkeys(s for items in drawn for substrings in items for s in substrings))}
    finder = Finder([substring.encode("utf-8", "surrogatepass") for substring in number_of])
    wanted = [np.unique([number_of[s] for substrings in items for s in substrings]).astype(np.int64) for items in drawn]
    ngrams = Ngrams([item for items in benchmarks for item in items], config.ngram)
    first_of = np.full(len(number_of), _NEVER)
    full = np.array([len(s) >= config.length for s in number_of], bool)
    holders: list[set[int]] = [set() for _ in benchmarks]
    by_length: list[set[int]] = [set() for _ in benchmarks]
    first = 0
    for batch in batches(documents):
        hits = finder.search([stripped(text) for text in batch])
        np.minimum.at(first_of, hits.patterns, first + hits.documents)
        for held, long, mine in zip(holders, by_length, wanted, strict=True):
            chosen = np.isin(hits.patterns, mine)
            held.update((first + np.unique(hits.documents[chosen])).tolist())
            long.update((first + np.unique(hits.documents[chosen & full[hits.patterns]])).tolist())
        ngrams.feed(batch, first)
        first += len(batch)
    seconds = ngrams.split([len(items) for items in benchmarks])
    return [
        Overlap(
            _matches(items, number_of, first_of),
            *second,
            frozenset(held),
            frozenset(long),
            short=sum(len(substrings[0]) < config.length for substrings in items if substrings),
            empty=sum(not substrings for substrings in items),
        )
        for items, second, held, long in zip(drawn, seconds, holders, by_length, strict=True)
    ]


def _matches(items: list[list[str]], number_of: dict[str, int], first_of: npt.NDArray[np.int64]) -> list[Match]:
    """For each contaminated item the first document that holds one of its substrings."""
    found = []
    for index, substrings in enumerate(items):
        document, substring = min(((int(first_of[number_of[s]]), s) for s in substrings), default=(_NEVER, ""))
        if document < _NEVER:
            found.append(Match(index, document, substring))
    return found


def batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in lists of about a megabyte."""
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
