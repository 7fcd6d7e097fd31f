"""Calibration: do things said with confidence p come true a share p of the time?

Expected calibration error with equal-width bins (Guo et al. 2017, equations 2-3; the GPT-4 report's figure 8 on multiple choice), for any
stream of (confidence, correct): next-token predictions, preferences. Left out: temperature scaling, adaptive bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelyard.config import Config
from modelyard.stats.estimate import Estimate


class Bin(Config):
    """One bar of a reliability diagram."""

    low: float
    """Lower edge of the confidences."""
    high: float
    """Upper edge."""
    n: int
    """Predictions in it."""
    confidence: float
    """Mean confidence (the bin's middle when empty)."""
    accuracy: float
    """Share that came true (0 when empty)."""


def reliability(confidences: Sequence[float], correct: Sequence[bool], bins: int = 10) -> list[Bin]:
    """Equal-width bins over [0, 1]; a confidence on an edge belongs to the bin below it.

    Raises:
        ValueError: nothing to bin, different lengths or a confidence outside [0, 1].
    """
    p, hit = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if p.size == 0 or p.shape != hit.shape or not np.all((p >= 0) & (p <= 1)):
        raise ValueError("calibration needs as many outcomes as confidences, at least one, each in [0, 1]")
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.clip(np.ceil(p * bins).astype(int) - 1, 0, bins - 1)
    result = []
    for b in range(bins):
        inside = index == b
        n = int(inside.sum())
        middle = float((edges[b] + edges[b + 1]) / 2)
        confidence, accuracy = (float(p[inside].mean()), float(hit[inside].mean())) if n else (middle, 0.0)
        result.append(Bin(low=float(edges[b]), high=float(edges[b + 1]), n=n, confidence=confidence, accuracy=accuracy))
    return result


def joined(bins: Sequence[Bin], least: int) -> list[Bin]:
    """Neighbouring bins as one until each has at least ``least`` predictions, for a figure; all in one where there are fewer. Empty ones go."""
    made: list[Bin] = []
    for one in (b for b in bins if b.n):
        if made and made[-1].n < least:
            made[-1] = _together(made[-1], one)
        else:
            made.append(one)
    if len(made) > 1 and made[-1].n < least:
        made[-2:] = [_together(made[-2], made[-1])]
    return made


def _together(left: Bin, right: Bin) -> Bin:
    n = left.n + right.n
    confidence, accuracy = ((getattr(left, key) * left.n + getattr(right, key) * right.n) / n for key in ("confidence", "accuracy"))
    return Bin(low=left.low, high=right.high, n=n, confidence=confidence, accuracy=accuracy)


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Sum over bins of n_b/N |accuracy_b - confidence_b|."""
    total = sum(b.n for b in bins)
    return sum(b.n / total * abs(b.accuracy - b.confidence) for b in bins)


def calibration(confidences: Sequence[float], correct: Sequence[bool], seed: int, resamples: int = 200) -> tuple[Estimate, list[Bin]]:
    """ECE with a percentile bootstrap interval over predictions, and its bins."""
    p, hit = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=bool)
    bins = reliability(confidences, correct)
    generator = np.random.default_rng(seed)
    draws = [generator.integers(0, p.size, p.size) for _ in range(resamples)]
    errors = [expected_calibration_error(reliability(p[draw].tolist(), hit[draw].tolist())) for draw in draws]
    low, high = np.quantile(errors, [0.025, 0.975])
    value = expected_calibration_error(bins)
    return Estimate(value, min(float(low), value), max(float(high), value), int(p.size)), bins
