"""Exact and near duplicates: MinHash signatures (Broder 1997; rensa's implementation) and banded LSH, deterministic in
document order.

Signatures are computed inside the parallel pass; the look-up is one serial pass over them. Of several copies the first
in the given order stays, so a caller that puts held-out documents first removes from training whatever resembles them.
A pair found by LSH counts only when the signatures' estimated Jaccard similarity reaches the threshold. Left out:
repeated passages inside otherwise different documents.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from modelyard.config import Config

_TOKEN = re.compile(r"[^\W_]+")
_NOISE = re.compile(r"https?://\S+|@\w+")


class DuplicatesConfig(Config):
    """MinHash parameters."""

    permutations: int
    """Length of a signature; bands times rows."""
    bands: int
    """LSH bands."""
    shingle: int
    """Words in a shingle."""
    threshold: float
    """Estimated Jaccard similarity from which two documents are near duplicates."""

    @model_validator(mode="after")
    def _whole_bands(self) -> DuplicatesConfig:
        if self.bands < 1 or self.permutations % self.bands:
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


def shingles(text: str, size: int) -> list[str]:
    """Word n-grams without links, mentions, case and punctuation; a shorter text is one shingle."""
    tokens = _TOKEN.findall(_NOISE.sub(" ", text.casefold()))
    if len(tokens) <= size:
        return [" ".join(tokens)]
    return [" ".join(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]


def signatures(texts: list[str], config: DuplicatesConfig) -> npt.NDArray[np.uint32]:
    """MinHash signatures, uint32 [texts, permutations]."""
    from rensa import RMinHash

    if not texts:
        return np.zeros((0, config.permutations), np.uint32)
    sets = [shingles(text, config.shingle) for text in texts]
    return np.asarray(RMinHash.digests_from_token_sets(sets, num_perm=config.permutations, seed=1), dtype=np.uint32)


def find(keys: list[bytes], signature: npt.NDArray[np.uint32], config: DuplicatesConfig) -> list[Duplicate | None]:
    """For each document, in order, the earlier kept document it copies, or None when it stays.

    Args:
        keys: :func:`exact_key` of each document.
        signature: uint32 [documents, permutations].
        config: bands and threshold.
    """
    rows = config.permutations // config.bands
    banded = np.ascontiguousarray(signature).view(np.dtype((np.void, 4 * rows))).reshape(len(keys), config.bands)
    buckets: list[dict[bytes, list[int]]] = [{} for _ in range(config.bands)]
    exact: dict[bytes, int] = {}
    found: list[Duplicate | None] = []
    for index, key in enumerate(keys):
        if key in exact:
            found.append(Duplicate(exact[key], 1.0, exact=True))
            continue
        bands = [value.tobytes() for value in banded[index]]
        candidates = sorted({other for bucket, band in zip(buckets, bands, strict=True) for other in bucket.get(band, ())})
        near = _nearest(index, candidates, signature, config.threshold)
        found.append(near)
        if near is None:
            exact[key] = index
            for bucket, band in zip(buckets, bands, strict=True):
                bucket.setdefault(band, []).append(index)
    return found


def _nearest(index: int, candidates: list[int], signature: npt.NDArray[np.uint32], threshold: float) -> Duplicate | None:
    if not candidates:
        return None
    similarity = (signature[candidates] == signature[index]).mean(axis=1)
    best = int(similarity.argmax())
    return Duplicate(candidates[best], float(similarity[best]), exact=False) if similarity[best] >= threshold else None
