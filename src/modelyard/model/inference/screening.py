"""Likelihoods in fp32, or screened: bfloat16 products decide the clear cases and fp32 the close ones.

A choice is an order of totals, so an approximate total is enough wherever the gap to the runner-up is much larger than the approximation's
error. The error a token is measured on a sample of the run's own questions, scored both ways; a question is close when a gap (of the sums, of the
sums a character, or of a token to the best other one) is under ``SIGMAS`` times the error that the numbers of tokens in it allow, taken as
independent. Close questions are scored again in fp32. The choices are then those of fp32; the log-probabilities of clear questions keep the
bfloat16 error. Left out: a proof; the gap is statistical, and the tests and the benchmark count the flips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from modelyard.model.asked import Likelihood
from modelyard.model.inference.gallery import Gallery
from modelyard.model.inference.queries import Query
from modelyard.model.inference.score import Scorer

SIGMAS = 5.0
SAMPLE = 32


def likelihoods(scorer: Scorer, queries: Sequence[Query], gallery: Gallery | None = None) -> list[list[Likelihood]]:
    """Every likelihood as ``scorer`` gives it."""
    return [[Likelihood(*scored) for scored in line] for line in scorer.score(queries, gallery=gallery)]


def screened(
    exact: Scorer, quick: Scorer, queries: Sequence[Query], lengths: Sequence[Sequence[int]], gallery: Gallery | None = None
) -> list[list[Likelihood]]:
    """Likelihoods whose choices are those of ``exact``; ``lengths``: characters of each continuation."""
    sample = np.random.default_rng(0).permutation(len(queries))[:SAMPLE].tolist()
    known = dict(zip(sample, likelihoods(exact, [queries[i] for i in sample], gallery), strict=True))
    rough = likelihoods(quick, queries, gallery)
    error = token_error([known[i] for i in sample], [rough[i] for i in sample])
    close = [i for i in range(len(queries)) if i not in known and is_close(rough[i], lengths[i], error)]
    known |= dict(zip(close, likelihoods(exact, [queries[i] for i in close], gallery), strict=True))
    return [known.get(i, rough[i]) for i in range(len(queries))]


def token_error(exact: Sequence[Sequence[Likelihood]], rough: Sequence[Sequence[Likelihood]]) -> float:
    """Root mean square difference of a token's log-probability, nats."""
    pairs = [(a, b) for ours, theirs in zip(exact, rough, strict=True) for a, b in zip(ours, theirs, strict=True)]
    squares = [(x - y) ** 2 for a, b in pairs for x, y in zip(a.logprobs, b.logprobs, strict=True)]
    return math.sqrt(sum(squares) / len(squares))


def is_close(line: Sequence[Likelihood], lengths: Sequence[int], error: float) -> bool:
    """Whether an error of ``error`` nats a token could change a decision on this question."""
    if len(line) == 1:
        return abs(line[0].margin) < SIGMAS * error * math.sqrt(2)
    for scale in ([1.0] * len(line), [1.0 / max(length, 1) for length in lengths]):
        totals = [likelihood.total * by for likelihood, by in zip(line, scale, strict=True)]
        noise = [error**2 * len(likelihood.logprobs) * by**2 for likelihood, by in zip(line, scale, strict=True)]
        best = max(range(len(line)), key=lambda i: totals[i])
        if any(totals[best] - totals[i] < SIGMAS * math.sqrt(noise[best] + noise[i]) for i in range(len(line)) if i != best):
            return True
    return False
