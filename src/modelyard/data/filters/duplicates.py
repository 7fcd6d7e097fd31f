"""Exact and near duplicates: MinHash signatures (Broder 1997; rensa's implementation) and banded LSH, deterministic in
document order.

Signatures are computed inside the parallel pass. :func:`find` is the serial look-up of a few documents; a corpus's is
:mod:`modelyard.data.corpus.deduplicate`, over any number of partitions. Of several copies the first in the given order
stays, so a caller that puts held-out documents first removes from training whatever resembles them.
A pair found by LSH counts only when the signatures' estimated Jaccard similarity reaches the threshold. Left out:
repeated passages inside otherwise different documents.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.filters import words
from modelyard.data.filters.seen import Seen, band_hashes

_NOISE = re.compile(r"https?://\S+|@\w+")


class DuplicatesConfig(Config):
    """MinHash parameters."""

    permutations: int = Field(ge=1)
    """Length of a signature; bands times rows."""
    bands: int = Field(ge=1)
    """LSH bands."""
    shingle: int = Field(ge=1)
    """Words in a shingle; where no spaces are written, two or four times as many characters."""
    threshold: float
    """Estimated Jaccard similarity from which two documents are near duplicates."""

    @model_validator(mode="after")
    def _whole_bands(self) -> DuplicatesConfig:
        if self.permutations % self.bands:
            raise ValueError(f"permutations ({self.permutations}) must be a multiple of bands ({self.bands})")
        return self


class Duplicate(NamedTuple):
    """Why a document is a copy."""

    original: int
    """Index of the document that stays."""
    similarity: float
    """1.0 for an exact copy, else the estimated Jaccard similarity."""
    exact: bool
    """Equal after folding case and white space."""


def exact_key(text: str) -> bytes:
    """16 bytes, equal for texts that differ only in case and white space."""
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).digest()[:16]


def signatures(texts: list[str], config: DuplicatesConfig) -> npt.NDArray[np.uint32]:
    """MinHash signatures over word n-grams without links, mentions, case and punctuation, uint32 [texts, permutations].

    A text with fewer words than a shingle is one shingle. Text in scripts without spaces has shingles of characters. A text of nothing but
    links and mentions is signed with them, one without a word by its characters.
    """
    from rensa import RMinHash

    result = np.zeros((len(texts), config.permutations), np.uint32)
    for begin, block in words.blocks([_cleaned(text) for text in texts]):
        hashes, rows = _shingles(words.words(block, unspaced=True), config.shingle)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, rows, num_perm=config.permutations, seed=1)
        result[begin : begin + rows.size - 1] = matrix.to_rows()
    return result


def _cleaned(text: str) -> str:
    """The text without links and mentions. What has no shingle would resemble all that has none, so some word is always left."""
    cleaned = _NOISE.sub(" ", text) if "@" in text or "://" in text else text
    if _has_word(cleaned):
        return cleaned
    return text if _has_word(text) else " ".join(f"{ord(char):x}" for char in text if not char.isspace())


def _has_word(text: str) -> bool:
    return any(map(str.isalnum, text))


def _shingles(found: words.Words, size: int) -> tuple[words.Hashes, npt.NDArray[np.uint64]]:
    """(hashes, first shingle of each document and the end)."""
    counts = np.diff(found.rows)
    whole = size * found.steps
    hashes, starts = words.ngrams(found, size)
    parts = [(hashes, found.documents[starts])]
    for n in range(1, int(whole.max(initial=1))):
        if (short := (counts == n) & (n < whole)).any():
            hashes, starts = words.ngrams(found._replace(steps=np.ones_like(whole)), n)
            mine = short[found.documents[starts]]
            parts.append((hashes[mine], found.documents[starts[mine]]))
    hashes, owner = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(owner, kind="stable")
    rows = np.searchsorted(owner[order], np.arange(found.rows.size)).astype(np.uint64)
    return np.ascontiguousarray(hashes[order]), rows


def find(keys: list[bytes], signature: npt.NDArray[np.uint32], config: DuplicatesConfig) -> list[Duplicate | None]:
    """For each document, in order, the earlier kept document it copies, or None when it stays.

    Args:
        keys: :func:`exact_key` of each document.
        signature: uint32 [documents, permutations].
        config: bands and threshold.
    """
    seen = Seen(config.bands)
    bands = band_hashes(signature, config.bands).tolist()
    found: list[Duplicate | None] = []
    for index, key in enumerate(np.frombuffer(b"".join(keys), np.uint64)[::2].tolist()):
        copy = seen.copy(key)
        if copy is not None:
            found.append(Duplicate(copy, 1.0, exact=True))
            continue
        candidates = seen.candidates(bands[index])
        similarities = (signature[candidates] == signature[index]).mean(axis=1)
        near = nearest(similarities, config.threshold)
        found.append(None if near is None else Duplicate(candidates[near], float(similarities[near]), exact=False))
        if near is None:
            seen.add(index, key, bands[index])
    return found


def nearest(similarities: npt.NDArray[np.float64], threshold: float) -> int | None:
    """The place of the first of the largest, when it reaches the threshold."""
    if not similarities.size or similarities.max() < threshold:
        return None
    return int(similarities.argmax())
