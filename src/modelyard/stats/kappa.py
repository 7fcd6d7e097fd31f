"""Agreement beyond chance: Cohen's kappa (1960) of two labellings, with a percentile interval over clusters (Efron 1979)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelyard.stats.estimate import Estimate, proportion

RESAMPLES = 1000


def confusion(labels: NDArray[np.int64], said: NDArray[np.int64], options: int) -> NDArray[np.int64]:
    """[label][answer] counts."""
    table = np.zeros((options, options), dtype=np.int64)
    np.add.at(table, (labels, said), 1)
    return table


def cohens_kappa(table: NDArray[np.int64]) -> float:
    """(observed - expected) / (1 - expected) agreement of a confusion table; 0 where both only ever say one same thing."""
    total = table.sum()
    observed = float(np.trace(table) / total)
    expected = float((table.sum(0) * table.sum(1)).sum() / total**2)
    return 0.0 if expected == 1 else (observed - expected) / (1 - expected)


def _of_trials(table: NDArray[np.int64], trials: int) -> tuple[float, float]:
    """Kappa where the agreement of a table lies at the ends of Wilson's interval (1927) of so many trials."""
    total = table.sum()
    expected = float((table.sum(0) * table.sum(1)).sum() / total**2)
    agreement = proportion(float(np.trace(table) / total) * trials, trials)
    if expected == 1:
        return 0.0, 0.0
    return (agreement.low - expected) / (1 - expected), (agreement.high - expected) / (1 - expected)


def bootstrapped_kappa(labels: NDArray[np.int64], said: NDArray[np.int64], prompts: Sequence[str], options: int, seed: int) -> Estimate:
    """Kappa with a percentile interval over prompts."""
    names = list(dict.fromkeys(prompts))
    tables = np.stack(
        [confusion(labels[mine], said[mine], options) for name in names if (mine := np.array([p == name for p in prompts])).any()]
    )
    generator = np.random.default_rng(seed)
    draws = [cohens_kappa(tables[generator.integers(0, len(names), len(names))].sum(0)) for _ in range(RESAMPLES)]
    value = cohens_kappa(tables.sum(0))
    low, high = np.quantile(draws, [0.025, 0.975])
    if low == high:  # all prompts alike: resampling them knows no doubt, so each counts as one trial
        low, high = _of_trials(tables.sum(0), len(names))
    return Estimate(value, min(float(low), value), max(float(high), value), len(labels))
