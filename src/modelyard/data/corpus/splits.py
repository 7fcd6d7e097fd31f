"""Which split a document belongs to. Clusters of similar documents, and works, are held out whole.

A cluster is a 64-bit number whose two lowest bits say its split, so that whoever meets the cluster later knows on which side it is. The split is a
function of (seed, name of the cluster) and the source's shares alone: a new source or another cap never moves a document to another side.
"""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple, get_args

Split = Literal["train", "validation", "test"]
"""train: trained on; validation: measures the language-model loss; test: items of benchmarks."""
SPLITS: tuple[Split, ...] = get_args(Split)
_BITS = 3


def new_cluster(name: int, validation: float, test: float, seed: int) -> int:
    """The cluster that begins with the document or work called ``name`` (64 bits), ``validation`` and ``test`` being shares."""
    place = fraction(f"{seed}:cluster:{name}")
    split = "test" if place < test else "validation" if place < test + validation else "train"
    return name & ~_BITS | SPLITS.index(split)


class HeldOut(NamedTuple):
    """What decides about the split of a new cluster."""

    validation: float
    """Share of clusters that measures the language-model loss."""
    test: float
    """The source's share of benchmarks."""
    seed: int

    def cluster(self, name: int) -> int:
        """A new cluster that begins with ``name``."""
        return new_cluster(name, self.validation, self.test, self.seed)


def split_of(cluster: int) -> Split:
    """The split of a cluster."""
    return SPLITS[cluster & _BITS]


def fraction(text: str) -> float:
    """A number in [0, 1) that depends on ``text`` only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
