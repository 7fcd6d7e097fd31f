"""Paired tests on the same items: McNemar's exact test, the paired bootstrap (Efron 1979), Student's t, and Holm's correction (1979);
Fisher's exact test for counts of different items.

Left out: equivalence tests, multilevel models.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p-value that gains and losses are equally likely."""
    from scipy.stats import binomtest

    return 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost, 0.5).pvalue)


def undecidable(items: Sequence[int], alpha: float) -> list[int]:
    """The places of the comparisons, each by McNemar's test of so many items, that Holm's correction over all of them leaves no way to be
    significant at ``alpha``, whatever all of their outcomes are."""
    return [place for place, p in enumerate(holm([min(1.0, 2.0 ** (1 - n)) for n in items])) if p >= alpha]


def fisher(bad: int, n: int, other_bad: int, other_n: int) -> float:
    """One-sided p-value of Fisher's exact test that ``bad`` of ``n`` is no larger share than ``other_bad`` of ``other_n``."""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[bad, n - bad], [other_bad, other_n - other_bad]], alternative="greater").pvalue)


def paired_bootstrap(differences: np.ndarray, seed: int, resamples: int = 2000) -> tuple[float, float, float]:
    """Low, high (95%) and two-sided p-value of the mean difference [n]; resampling items keeps the pairing.

    Where no resample crosses zero p is the paired t-test's, if that is smaller than what so many resamples can tell.
    """
    generator = np.random.default_rng(seed)
    means = np.array([differences[generator.integers(0, differences.size, differences.size)].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (int(tail) + 1) / (resamples + 1))
    return float(low), float(high), min(p, paired_t(differences)) if tail == 0 else p


def paired_t(differences: np.ndarray) -> float:
    """Two-sided p-value of Student's paired t-test on differences [n] that are not all zero; 1 for a single one, which has no spread."""
    if differences.size < 2:
        return 1.0
    if np.ptp(differences) == 0:
        return 0.0
    from scipy.stats import ttest_1samp

    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # nearly equal differences: their spread is rounding
        return float(ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected
