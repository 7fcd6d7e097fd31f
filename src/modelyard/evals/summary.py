"""Records become metrics, each with n, standard error and a bootstrap interval over items.

A metric is a function of items, not of outputs: several samples of an item are one item, and the bootstrap (Efron 1979, percentile) draws items.
Names that are none of :data:`METRICS` are means of the records' value of that name. Left out: tests between models (``release.compare``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.metrics import average_precision, pass_at_k
from modelyard.formats.records import Record
from modelyard.stats.calibration import expected_calibration_error, reliability

Items = list[list[Record]]
RESAMPLES = 1000


class Metric(NamedTuple):
    """A value over ``n`` items with the standard error and the 95% percentile interval of its bootstrap."""

    value: float
    stderr: float
    low: float
    high: float
    n: int

    def plain(self) -> dict[str, float | None]:
        """For JSON: what is not known (the error of one item) is null."""
        return {key: None if math.isnan(value) else value for key, value in self._asdict().items()}

    def __str__(self) -> str:
        return f"{self.value:.4f} +- {self.stderr:.4f} [{self.low:.4f}, {self.high:.4f}] n={self.n}"


def by_item(records: Sequence[Record]) -> Items:
    """Records of the same item together, in order."""
    found: dict[str, list[Record]] = {}
    for entry in records:
        found.setdefault(entry.item, []).append(entry)
    return list(found.values())


def bootstrap(parts: NDArray[np.float64], of_sums: Callable[[NDArray[np.float64]], float], seed: int) -> Metric:
    """A metric that is a function of sums over items ([n, k] parts)."""
    generator = np.random.default_rng(seed)
    n = len(parts)
    values = np.array([of_sums(parts[generator.integers(0, n, n)].sum(0)) for _ in range(RESAMPLES)])
    return metric(of_sums(parts.sum(0)), values, n)


def resampled(items: Items, statistic: Callable[[Items], float], seed: int, resamples: int = 200) -> Metric:
    """A metric that needs the items themselves; NaN draws (a class that is missing) are left out of the interval."""
    generator = np.random.default_rng(seed)
    values = np.array([statistic([items[i] for i in generator.integers(0, len(items), len(items))]) for _ in range(resamples)])
    return metric(statistic(items), values[~np.isnan(values)], len(items))


def metric(value: float, draws: NDArray[np.float64], n: int) -> Metric:
    """From the bootstrap's draws; the interval always holds the value."""
    if n < 2 or draws.size < 2 or math.isnan(value):
        return Metric(value, math.nan, math.nan, math.nan, n)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Metric(value, float(draws.std(ddof=1)), min(float(low), value), max(float(high), value), n)


def means(items: Items, value: Callable[[list[Record]], float], seed: int) -> Metric:
    """Mean over items."""
    parts = np.array([[value(line)] for line in items], dtype=np.float64)
    return bootstrap(parts, lambda sums: float(sums[0]) / len(parts), seed)


def of_ratio(items: Items, above: str, below: str, shape: Callable[[float], float], seed: int) -> Metric:
    """``shape`` of the ratio of two summed values."""
    parts = np.array([[line[0].values[above], line[0].values.get(below, 1.0)] for line in items], dtype=np.float64)
    return bootstrap(parts, lambda sums: shape(float(sums[0] / sums[1])), seed)


def passed_at(items: Items, k: int, seed: int) -> Metric | None:
    """pass@k over items, or None where an item has fewer than k samples."""
    if min(len(line) for line in items) < k:
        return None
    return means(items, lambda line: pass_at_k(len(line), sum(r.values["passed"] > 0 for r in line), k), seed)


def share(items: Items, group: str, value: Callable[[Record], float], seed: int) -> Metric | None:
    """Mean of ``value`` over the items of one group."""
    own = [line for line in items if line[0].group == group]
    return means(own, lambda line: sum(map(value, line)) / len(line), seed) if own else None


def precision(items: Items) -> float:
    """Average precision of the first choice's share; ``right`` is what the record scores and chooses."""
    return average_precision(
        [line[0].values["share_first"] for line in items], [(line[0].choice == 0) == bool(line[0].values["acc"]) for line in items]
    )


def calibration_error(items: Items) -> float:
    """ECE of the confidence in the chosen option (GPT-4 report, figure 8)."""
    return expected_calibration_error(
        reliability([line[0].values["confidence"] for line in items], [bool(line[0].values["acc"]) for line in items])
    )


METRICS: dict[str, Callable[[Items, int], Metric | None]] = {
    "perplexity": lambda items, seed: of_ratio(items, "nats", "tokens", math.exp, seed),
    "word_perplexity": lambda items, seed: of_ratio(items, "nats", "one", math.exp, seed),
    "bits_per_byte": lambda items, seed: of_ratio(items, "nats", "bytes", lambda nats: nats / math.log(2), seed),
    "pass_at_1": lambda items, seed: passed_at(items, 1, seed),
    "pass_at_10": lambda items, seed: passed_at(items, 10, seed),
    "pass_at_100": lambda items, seed: passed_at(items, 100, seed),
    "average_precision": lambda items, seed: resampled(items, precision, seed),
    "calibration_error": lambda items, seed: resampled(items, calibration_error, seed),
    "over_refusal": lambda items, seed: share(items, "safe", lambda r: float(r.parsed == "refusal"), seed),
    "unsafe_answered": lambda items, seed: share(items, "unsafe", lambda r: float(r.parsed == "answer"), seed),
    "toxicity": lambda items, seed: means(items, lambda line: 1 - sum(r.score for r in line) / len(line), seed),
}


def summarise(benchmark: Benchmark, records: Sequence[Record], seed: int = 0) -> dict[str, Metric]:
    """The benchmark's metrics in its order; those that the records cannot give (pass@100 of one sample) are left out.

    Raises:
        ValueError: there are no records, or a mean is asked of a value that a record lacks.
    """
    if not records:
        raise ValueError(f"{benchmark.name}: no records")
    items = by_item(records)
    found: dict[str, Metric] = {}
    for name in benchmark.metrics:
        if name in METRICS:
            made = METRICS[name](items, seed)
        elif lacking := [r.item for r in records if name not in r.values]:
            raise ValueError(f"{benchmark.name}: item {lacking[0]} has no value {name!r}")
        else:
            made = means(items, lambda line, name=name: sum(r.values[name] for r in line) / len(line), seed)  # type: ignore[misc]
        if made is not None:
            found[name] = made
    return found


def by_group(records: Sequence[Record], seed: int = 0) -> dict[str, Metric]:
    """Mean score of each group; empty where there is only one."""
    groups = dict.fromkeys(r.group for r in records)
    if len(groups) < 2:
        return {}
    return {
        g: means(by_item([r for r in records if r.group == g]), lambda line: sum(r.score for r in line) / len(line), seed) for g in groups
    }
