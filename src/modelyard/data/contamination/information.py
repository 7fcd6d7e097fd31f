"""How much a short item says: the evidence that a text holding it holds the item, and not a phrase that anybody writes.

GPT-4's rule looks for an item under 50 characters as a whole, so "country?" is found in half of all texts. Characters are
no measure either: 25 of them are a sentence in Japanese and a few words in English. What counts is how often chance would
produce the item in as much text as was searched. Its probability comes from character n-grams of a sample of that text,
interpolated from one to five characters with Dirichlet smoothing (MacKay and Peto 1995), where the item's own occurrences
are taken out of the counts; the expected number of chance occurrences is that times the characters searched, as in an
E-value (Karlin and Altschul 1990). Counts are by script: in an English corpus any hangul is rare, and no evidence. Left
out: what words mean, so that an idiom that few texts hold counts as an item.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from modelyard.data.filters.code_points import Codes, codes_of

ORDER = 5
"""Characters of the longest n-gram."""
_SMOOTHING = 4.0
"""Weight of the shorter n-gram's estimate, in counts."""
_SAMPLE = 1 << 21
_LONGEST = 1 << 16
_LEAST_ALPHABET = 64
_LEAST_SEARCHED = float(1 << 20)
"""Characters that chance is given at least: few documents do not make a phrase rare."""
_SCRIPTS = np.array([0x30, 0x3A, 0x370, 0x530, 0x600, 0x900, 0xE00, 0x3040, 0xAC00, 0xD7B0], np.uint32)
"""First code points of: digits, Latin, Greek and Cyrillic, Hebrew, Arabic, India, South-East Asia, kana and Chinese, hangul, others."""
_BASE = np.uint64(0x9E3779B97F4A7C15)


class Sample:
    """About two million characters of everything that is searched, documents chosen by a hash of their number."""

    def __init__(self) -> None:
        self._kept: dict[int, str] = {}
        self._size, self._halvings = 0, 0
        self._seen = np.zeros(_SCRIPTS.size + 1, np.int64)

    def feed(self, documents: Iterable[str], first: int) -> None:
        """Look at stripped documents; ``first`` is the number of the first of them."""
        for number, text in enumerate(documents, first):
            if not _chosen(number, self._halvings):
                continue
            self._kept[number] = text[:_LONGEST]
            self._size += len(self._kept[number])
            while self._size > 2 * _SAMPLE:
                self._halvings += 1
                self._kept = {n: kept for n, kept in self._kept.items() if _chosen(n, self._halvings)}
                self._size = sum(map(len, self._kept.values()))

    def evidence(self, items: list[str], searched: int) -> list[float]:
        """Bits by which each stripped item is rarer than once in the text searched; at most 0: chance explains it.

        Args:
            items: not empty.
            searched: characters searched.
        """
        joined = "\0".join(self._kept.values())
        codes = codes_of(joined)
        model = _Counts(codes, items)
        scale = searched / max(1, codes.size)
        result = []
        for item in items:
            own = joined.count(item)
            script = _main_script(item)
            among = max(_LEAST_SEARCHED, scale * model.of_script[script])
            result.append(model.bits(item, own) - math.log2(among))
        return result


def _chosen(number: int, halvings: int) -> bool:
    """Whether a document stays in the sample after so many halvings."""
    return (number * int(_BASE) & 0xFFFFFFFFFFFFFFFF) >> (64 - halvings) == 0 if halvings else True


class _Counts:
    """Counts of the items' n-grams in a sample."""

    def __init__(self, codes: Codes, items: list[str]) -> None:
        scripts = _scripts(codes)
        self.of_script = np.bincount(scripts, minlength=_SCRIPTS.size + 1)
        distinct = np.unique(codes)
        self._alphabets = np.maximum(2 * np.bincount(_scripts(distinct), minlength=_SCRIPTS.size + 1), _LEAST_ALPHABET)
        self._counts: list[dict[str, int]] = []
        hashes, wanted = np.zeros(codes.size, np.uint64), codes.astype(np.uint64)
        for size in range(1, ORDER + 1):
            hashes = hashes[: codes.size - size + 1] * _BASE + wanted[size - 1 :] + np.uint64(1)
            grams = sorted({item[at : at + size] for item in items for at in range(len(item) - size + 1)})
            self._counts.append(_counted(hashes, grams))

    def bits(self, item: str, own: int) -> float:
        """Information of an item, of whose occurrences ``own`` are not counted."""
        total = 0.0
        for at in range(len(item)):
            script = int(_scripts(codes_of(item[at]))[0])
            chance = 1.0 / self._alphabets[script]
            above = float(self.of_script[script])
            for size in range(1, min(ORDER, at + 1) + 1):
                gram = item[at - size + 1 : at + 1]
                count = self._without(gram, item, own)
                if size > 1:
                    above = self._without(gram[:-1], item, own)
                chance = (count + _SMOOTHING * chance) / (max(above, count) + _SMOOTHING)
            total -= math.log2(chance)
        return total

    def _without(self, gram: str, item: str, own: int) -> float:
        inside = sum(item.startswith(gram, at) for at in range(len(item)))
        return float(max(0, self._counts[len(gram) - 1].get(gram, 0) - own * inside))


def _counted(hashes: npt.NDArray[np.uint64], grams: list[str]) -> dict[str, int]:
    """How often each of some n-grams of one size occurs, by its hash."""
    wanted = np.array([_hash(gram) for gram in grams], np.uint64)
    order = np.argsort(wanted)
    ordered = wanted[order]
    places = np.minimum(np.searchsorted(ordered, hashes), max(0, ordered.size - 1))
    found = np.bincount(places[ordered[places] == hashes], minlength=ordered.size) if grams and hashes.size else np.zeros(len(grams), int)
    return {grams[gram]: int(count) for gram, count in zip(order.tolist(), found.tolist(), strict=True)}


def _hash(gram: str) -> int:
    value = 0
    for char in gram:
        value = (value * int(_BASE) + ord(char) + 1) & 0xFFFFFFFFFFFFFFFF
    return value


def _scripts(codes: Codes) -> npt.NDArray[np.int64]:
    return np.searchsorted(_SCRIPTS, codes, side="right")


def _main_script(item: str) -> int:
    return int(np.bincount(_scripts(codes_of(item))).argmax())
