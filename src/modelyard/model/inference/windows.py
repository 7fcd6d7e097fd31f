"""Continuations longer than the context: cut into windows to be scored, and their likelihoods joined."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelyard.model.asked import Likelihood
from modelyard.model.inference.queries import Query


def windows(query: Query, limit: int) -> list[Query]:
    """The query, or, where a continuation is longer than the context, consecutive windows of every continuation, one query each."""
    if max(map(len, query.continuations)) <= limit:
        return [query]
    pieces: list[Query] = []
    for prefix, new in zip(query.prefixes, query.continuations, strict=True):
        starts = range(0, len(new), limit)
        pieces += [Query([prefix if start == 0 else [new[start - 1]]], [new[start : start + limit]]) for start in starts]
    return pieces


def joined(found: Sequence[list[Likelihood]], query: Query) -> list[Likelihood]:
    """The likelihoods of a query from those of its windows."""
    if len(found) == 1:
        return found[0]
    pieces = iter([one for line in found for one in line])
    results = []
    for new in query.continuations:
        logprobs: list[float] = []
        margin = math.inf
        while len(logprobs) < len(new):
            piece = next(pieces)
            logprobs, margin = logprobs + piece.logprobs, min(piece.margin, margin)
        results.append(Likelihood(logprobs, margin))
    return results
