"""The mixture: how much of each source or kind a model reads, and in which order its documents are packed.

An entry gets its share of the token budget: its weight, times its natural size to the power 1/T where there is a temperature T, as
multilingual models are sampled (Conneau and Lample 2019, section 3.1). It never gets more epochs than its cap (repeating up to about four times
costs little, Muennighoff et al. 2023, arXiv:2305.16264); what a capped entry cannot give is shared out among the others. Every epoch is a new
shuffle, and then all documents are shuffled together. Rows are cut by :mod:`modelyard.formats.token_rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from pydantic import Field

from modelyard.config import Config
from modelyard.formats.indexed import Integers


class Share(Config):
    """What one source, or all sources of one kind, contribute."""

    weight: float = Field(ge=0)
    """Share of the token budget, relative to the other weights."""
    max_epochs: float = Field(gt=0)
    """Most times that its documents are repeated."""


class Planned(NamedTuple):
    """What an entry really contributes."""

    tokens: int
    """Tokens in the mixture."""
    epochs: float
    """Times its documents are seen."""


def entry_of(source: str, kind: str, mixture: Mapping[str, Share]) -> str | None:
    """The entry of the mixture that a source belongs to."""
    return next((name for name in (source, kind) if name in mixture), None)


def plan(available: Mapping[str, int], mixture: Mapping[str, Share], budget: int, temperature: float | None = None) -> dict[str, Planned]:
    """Tokens and epochs of each entry.

    Args:
        available: entry -> its training tokens; entries of the mixture without any contribute nothing.
        mixture: entry -> weight and epochs cap.
        budget: tokens that the model will read.
        temperature: 1 for shares as the entries are, larger for more even ones; None: the weights alone are the shares.
    """
    present = {name: share for name, share in mixture.items() if available.get(name, 0) > 0 and share.weight > 0}
    weights = {name: share.weight * (available[name] ** (1 / temperature) if temperature else 1.0) for name, share in present.items()}
    planned: dict[str, Planned] = {}
    left = float(budget)
    while weights:
        total = sum(weights.values())
        wanted = {name: left * weight / total for name, weight in weights.items()}
        capped = [name for name, tokens in wanted.items() if tokens > available[name] * present[name].max_epochs]
        if not capped:
            planned |= {name: Planned(round(tokens), tokens / available[name]) for name, tokens in wanted.items()}
            break
        for name in capped:
            most = available[name] * present[name].max_epochs
            planned[name] = Planned(round(most), most / available[name])
            del weights[name]
        left = budget - sum(entry.tokens for entry in planned.values())
    return {name: planned[name] for name in present if name in planned}


def select(lengths: Integers, tokens: int, generator: np.random.Generator) -> Integers:
    """Documents in shuffled epochs until ``tokens`` are reached, [chosen].

    Args:
        lengths: tokens of each document, the separator included, [documents].
        tokens: how many are wanted.
        generator: shuffles.
    """
    chosen: list[Integers] = []
    while tokens > 0:
        order = generator.permutation(len(lengths))
        reached = np.cumsum(lengths[order], dtype=np.int64)
        taken = order[: int(np.searchsorted(reached, tokens)) + 1]
        chosen.append(taken)
        tokens -= int(lengths[taken].sum())
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
