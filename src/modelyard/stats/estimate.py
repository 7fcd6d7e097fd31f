"""Numbers with their uncertainty: every metric that decides something comes as an :class:`Estimate`.

Wilson's score interval for proportions (Wilson 1927) and the percentile bootstrap (Efron 1979) for means. Paired tests between two models
are `release.compare`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054


class Estimate(NamedTuple):
    """A value with its 95% interval and the number of items behind it; NaN for what is not known."""

    value: float
    low: float
    high: float
    n: int
    stderr: float = math.nan
    """Standard error, where it was computed."""

    def plain(self) -> dict[str, float | None]:
        """For JSON: what is not known is null."""
        return {key: None if math.isnan(value) else value for key, value in self._asdict().items()}

    @classmethod
    def of(cls, plain: Mapping[str, float | None]) -> Estimate:
        """What :meth:`plain` spells. Raises KeyError for a part that is missing."""
        parts = (plain["value"], plain["low"], plain["high"], plain.get("stderr"))
        value, low, high, stderr = (math.nan if one is None else float(one) for one in parts)
        return cls(value, low, high, int(plain["n"] or 0), stderr)

    def flat(self, key: str) -> dict[str, float]:
        """Metrics dict: ``key``, ``key_low``, ``key_high``, ``key_n``."""
        return {key: self.value, f"{key}_low": self.low, f"{key}_high": self.high, f"{key}_n": float(self.n)}

    def __str__(self) -> str:
        error = "" if math.isnan(self.stderr) else f" +- {self.stderr:.3f}"
        return f"{self.value:.3f}{error} [{self.low:.3f}, {self.high:.3f}] n={self.n}"


def proportion(successes: float, n: int) -> Estimate:
    """Share ``successes / n`` with Wilson's interval. ``successes`` may be fractional (ties count a half). Raises ValueError for n = 0."""
    if n <= 0:
        raise ValueError("a proportion needs at least one item")
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))  # rounding must not put p outside
    return Estimate(p, low, high, n, math.sqrt(p * (1 - p) / n))


def bootstrap_mean(values: Sequence[float], seed: int, resamples: int = 1000) -> Estimate:
    """Mean of ``values`` with a percentile bootstrap interval. Raises ValueError for no values."""
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("a mean needs at least one item")
    generator = np.random.default_rng(seed)
    means = np.array([data[generator.integers(0, data.size, data.size)].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [0.025, 0.975])
    stderr = float(means.std(ddof=1)) if data.size > 1 else math.nan
    return Estimate(float(data.mean()), float(low), float(high), int(data.size), stderr)


def bootstrap(statistic: Callable[[npt.NDArray[np.int64]], float], n: int, seed: int, resamples: int = 1000) -> Estimate:
    """A statistic of ``n`` items with a percentile bootstrap interval that holds its value.

    ``statistic`` takes the indices of the items drawn, [n]; draws for which it gives NaN (a class that is missing) are left out.
    Raises ValueError for no items.
    """
    if n <= 0:
        raise ValueError("a statistic needs at least one item")
    generator = np.random.default_rng(seed)
    value = statistic(np.arange(n))
    draws = np.array([statistic(generator.integers(0, n, n)) for _ in range(resamples)])
    draws = draws[~np.isnan(draws)]
    if math.isnan(value) or draws.size < 2:
        return Estimate(value, math.nan, math.nan, n)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, min(float(low), value), max(float(high), value), n, float(draws.std(ddof=1)))
