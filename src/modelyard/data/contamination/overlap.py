"""Overlap between benchmarks and training text: the procedure of the GPT-4 Technical Report (appendix C), seeded, by two spellings.

Items and documents are stripped to letters and digits; three random substrings of 50 characters are drawn from each item (the whole item when it
is shorter), with replacement; an item is contaminated when any of them is a substring of a document. Question and context only, never the answer.

- *As written*: the report's rule to the letter, which is the figure to report. Case is kept: the report removes "all spaces and symbols" and says
  no more. It finds common phrases where items are short, and no copy in capitals.
- *By content*: the same on folded text (:mod:`modelyard.data.contamination.folding`), which is what gates and removes. An item of fewer than 50
  characters counts where chance does not explain it (:mod:`modelyard.data.contamination.information`) and few documents hold it.

Like the report's, this check has false positives (boilerplate) and negatives (paraphrases). An item without a letter or digit cannot be judged: it
is counted apart and is not among the contaminated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from modelyard.config import Config
from modelyard.data.contamination.folding import fold, folded, strip, stripped
from modelyard.data.contamination.information import Sample
from modelyard.data.contamination.ngram_overlap import LEAST, NgramMatch, Ngrams
from modelyard.data.contamination.substrings import Finder

_BATCH = 1 << 20
_NEVER = np.iinfo(np.int64).max
_FEW, _MANY = 10, 10_000
_COMMON = 1e-4
"""Share of the documents above which a short item that more than _FEW hold is a phrase; beyond _MANY it is one in any case."""


class ContaminationConfig(Config):
    """The procedure's numbers."""

    seed: int = Field(ge=0)
    """Of the draws."""
    substrings: int = Field(ge=1)
    """Substrings drawn from an item (GPT-4: 3)."""
    length: int = Field(ge=1)
    """Characters of a substring (GPT-4: 50)."""
    ngram: int = Field(ge=LEAST)
    """Words of the second opinion's n-grams (GPT-3: 13); at least 8, below which no item is judged."""
    short_evidence: float = Field(default=10.0, ge=0)
    """Bits by which an item shorter than a substring must be rarer than once in all the text searched, to count by content."""


class Match(NamedTuple):
    """A contaminated item."""

    item: int
    """Index in the benchmark."""
    document: int
    """Index of the first document that holds any of the item's substrings."""
    substring: str
    """What was found there, stripped (and folded, where it was found by content)."""


class Found(NamedTuple):
    """What one spelling found."""

    matches: list[Match]
    """Contaminated items in order."""
    documents: frozenset[int]
    """Every document that holds a drawn substring of one of them."""


class Overlap(NamedTuple):
    """What one pass over the documents found out about one benchmark."""

    written: Found
    """By the report's rule, to be reported."""
    content: Found
    """By content, to gate and remove: folded substrings, full ones as written, and short items with enough evidence."""
    ngrams: list[NgramMatch]
    """Items that the second opinion calls contaminated, in order."""
    unjudged: int
    """Items too short for the second opinion."""
    short: int
    """Items shorter than a substring, searched as a whole."""
    empty: int
    """Items without a letter or digit."""

    @property
    def documents(self) -> frozenset[int]:
        """Every document that holds any drawn substring, however little it says."""
        return self.written.documents | self.content.documents


def draw(item: str, index: int, config: ContaminationConfig) -> list[str]:
    """The substrings of a stripped item; a function of (seed, index, length of the item) alone."""
    if len(item) <= config.length:
        return [item]
    starts = np.random.default_rng([config.seed, index]).integers(0, len(item) - config.length + 1, config.substrings)
    return [item[start : start + config.length] for start in starts.tolist()]


def check(benchmarks: list[list[str]], documents: Iterable[str], config: ContaminationConfig) -> list[Overlap]:
    """Overlap of several benchmarks with the documents, in one pass over them."""
    written = _Search([[strip(item) for item in items] for items in benchmarks], config)
    content = _Search([[fold(item) for item in items] for items in benchmarks], config)
    ngrams = Ngrams([item for items in benchmarks for item in items], config.ngram)
    sample = Sample()
    first = searched = 0
    for batch in batches(documents):
        written.feed([stripped(text) for text in batch], first)
        spelled = [folded(text) for text in batch]
        content.feed(spelled, first)
        letters = [text.decode("utf-8", "surrogatepass") for text in spelled]
        sample.feed(letters, first)
        searched += sum(map(len, letters))
        ngrams.feed(batch, first)
        first += len(batch)
    seconds = ngrams.split([len(items) for items in benchmarks])
    telling = content.full | content.telling(sample, searched, first, config)
    as_written = written.found(np.ones_like(written.full))
    full, by_content = written.found(written.full), content.found(telling)
    return [
        Overlap(
            literal,
            _either(ours, long),
            *second,
            short=sum(len(substrings[0]) < config.length for substrings in items if substrings),
            empty=sum(not substrings for substrings in items),
        )
        for literal, long, ours, second, items in zip(as_written, full, by_content, seconds, written.drawn, strict=True)
    ]


def _either(first: Found, second: Found) -> Found:
    """What either found, in the first one's spelling where both did."""
    matches = {match.item: match for match in [*second.matches, *first.matches]}
    return Found([matches[item] for item in sorted(matches)], first.documents | second.documents)


class _Search:
    """The substrings of all benchmarks in one spelling; documents are fed in order."""

    def __init__(self, benchmarks: list[list[str]], config: ContaminationConfig) -> None:
        """Args: ``benchmarks``: stripped items."""
        self.drawn = [[[s for s in draw(item, index, config) if s] for index, item in enumerate(items)] for items in benchmarks]
        self.substrings = list(dict.fromkeys(s for items in self.drawn for substrings in items for s in substrings))
        self.full = np.array([len(s) >= config.length for s in self.substrings], bool)
        self._number = {s: n for n, s in enumerate(self.substrings)}
        self._finder = Finder([substring.encode("utf-8", "surrogatepass") for substring in self.substrings])
        self._counts = np.zeros(len(self.substrings), np.int64)
        self._pairs: list[npt.NDArray[np.int64]] = [np.zeros((2, 0), np.int64)]

    def feed(self, documents: list[bytes], first: int) -> None:
        """Look at documents; ``first`` is the index of the first of them."""
        hits = self._finder.search(documents)
        self._pairs.append(np.stack([hits.patterns, first + hits.documents]))
        self._counts += np.bincount(hits.patterns, minlength=self._counts.size)

    def telling(self, sample: Sample, searched: int, documents: int, config: ContaminationConfig) -> npt.NDArray[np.bool_]:
        """[substrings] whether a short one that was found is evidence, and no phrase that many documents hold."""
        few = self._counts <= min(max(_FEW, _COMMON * documents), _MANY)
        asked = np.flatnonzero(few & (self._counts > 0) & ~self.full)
        result = np.zeros(self.full.size, bool)
        if asked.size:
            bits = sample.evidence([self.substrings[n] for n in asked.tolist()], searched)
            result[asked] = np.array(bits) >= config.short_evidence
        return result

    def found(self, counted: npt.NDArray[np.bool_]) -> list[Found]:
        """Each benchmark's result by some of the substrings, [substrings]."""
        patterns, documents = np.concatenate(self._pairs, axis=1)
        kept = counted[patterns]
        patterns, documents = patterns[kept], documents[kept]
        first_of = np.full(len(self.substrings), _NEVER)
        np.minimum.at(first_of, patterns, documents)
        result = []
        for items in self.drawn:
            wanted = np.zeros(len(self.substrings), bool)
            wanted[[self._number[s] for substrings in items for s in substrings]] = True
            held = frozenset(np.unique(documents[wanted[patterns]]).tolist())
            result.append(Found(self._matches(items, first_of), held))
        return result

    def _matches(self, items: list[list[str]], first_of: npt.NDArray[np.int64]) -> list[Match]:
        """For each contaminated item the first document that holds one of its substrings."""
        found = []
        for index, substrings in enumerate(items):
            document, substring = min(((int(first_of[self._number[s]]), s) for s in substrings), default=(_NEVER, ""))
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
