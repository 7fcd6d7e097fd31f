"""How well scores order what people compared: accuracy, by margin, calibration, and beside it how often people agree.

InstructGPT (arXiv:2203.02155, section 4.1 and appendix C.2) reports accuracy on its training labelers and on held-out ones, with the agreement
among labelers as the ceiling. Every comparison counts once however many pairs it has, as in the loss. P(win) is the model's own, the logistic of
the score difference, so its calibration says whether a difference of one means the odds it claims.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from modelyard.formats.feedback import Comparison
from modelyard.model.network.model_config import Precision
from modelyard.stats import ties
from modelyard.stats.calibration import Bin, calibration
from modelyard.stats.estimate import Estimate, bootstrap_mean


class Pair(NamedTuple):
    """A pair without a tie and what the scores say of it."""

    comparison: int
    """Index of the comparison it belongs to."""
    win: float
    """P(win) of the better completion."""
    margin: float | None
    """How far apart people's mean ratings are; None where there are none."""

    correct: float
    """1 if the scores order the pair as people did, 0 if not, 0.5 for scores that are equal but for rounding."""


def judged(comparisons: Sequence[Comparison], scores: Sequence[Sequence[float]], precision: Precision) -> list[Pair]:
    """Every pair of every comparison; ``scores``: one for each completion of each comparison, by a model of ``precision``."""
    pairs = []
    for index, (one, given) in enumerate(zip(comparisons, scores, strict=True)):
        for better, worse in one.pairs():
            margin = None if one.scores is None else abs(one.scores[better] - one.scores[worse])
            win = logistic(given[better] - given[worse])
            pairs.append(Pair(index, win, margin, ties.preferred(given[better], given[worse], precision)))
    return pairs


def logistic(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def accuracy(pairs: Sequence[Pair], seed: int) -> Estimate:
    """Share of pairs ordered rightly, each comparison counting once; the interval is a bootstrap over comparisons."""
    by_comparison: dict[int, list[float]] = {}
    for pair in pairs:
        by_comparison.setdefault(pair.comparison, []).append(pair.correct)
    return bootstrap_mean([sum(found) / len(found) for found in by_comparison.values()], seed)


def accuracy_by_margin(pairs: Sequence[Pair], edges: Sequence[float], seed: int) -> dict[str, Estimate]:
    """Accuracy of the pairs whose margin lies in each [low, high) of ``edges``, the last open, by name; no empty bins."""
    bins: dict[str, Estimate] = {}
    for low, high in zip(edges, [*edges[1:], float("inf")], strict=True):
        inside = [pair for pair in pairs if pair.margin is not None and low <= pair.margin < high]
        if inside:
            bins[f"{low:g}-{high:g}"] = accuracy(inside, seed)
    return bins


def win_calibration(pairs: Sequence[Pair], seed: int) -> tuple[Estimate, list[Bin]]:
    """Expected calibration error of P(win) of the completion that the scores prefer, and its reliability bins."""
    return calibration([max(pair.win, 1 - pair.win) for pair in pairs], [pair.correct > 0.5 for pair in pairs], seed)


def human_ceiling(comparisons: Sequence[Comparison], seed: int) -> Estimate | None:
    """How often another rater agrees with the rater whose label is tested; None where nothing was rated twice."""
    found = [one.agreement for one in comparisons if one.agreement is not None]
    return bootstrap_mean(found, seed) if found else None
