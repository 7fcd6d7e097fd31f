"""Predictable capability: -E_P[log pass_rate(C)] = alpha C^-k, bucket by bucket (GPT-4 report, section 3.2), and a watch for trends that turn.

The report's rules: the hardest problems are dropped (15 of HumanEval's 164), the rest is split into buckets of equal size by how the small
models do (six), and a bucket's P holds the problems that every model solves at least once, as lower pass rates cannot be estimated. Where the
report is silent: difficulty is the small models' mean pass rate, ties in the problems' order; a bucket with fewer than ``least`` problems
left makes no prediction; the easiest bucket is predicted and marked, as the report's own miss was there; the interval comes from resampling
problems, redrawing their counts and adding the fit's residual scatter.

The law falls evenly on logarithmic axes. What is learned all at once (a carry in sums) falls faster and faster before it is there, and
:func:`~modelyard.scaling.power_law.steepening` over the small models says so: such a bucket carries an objection instead of a claim.

Left out: the bias of log of an estimated pass rate (about -(1 - p) / 2np), which is small where problems are solved many times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from modelyard.scaling.power_law import Array, Point, steepening
from modelyard.stats.estimate import Z95, Estimate

DRAWS = 400
STEEP = 0.05
"""A steepening as improbable as this is no noise."""


class Counts(NamedTuple):
    """How one model did: of ``samples`` tries at each problem, how many passed."""

    compute: float
    """Training FLOPs of the model."""
    samples: int
    passed: Mapping[str, int]
    """Problem -> passes, 0 to ``samples``."""


class Bucket(NamedTuple):
    """Problems of like difficulty, easiest bucket first."""

    problems: tuple[str, ...]
    """Those that every small model solves at least once."""
    unsolved: tuple[str, ...]
    """Those of this difficulty that some small model never solved: in no expectation."""


class CapabilityForecast(NamedTuple):
    """One bucket's prediction."""

    bucket: int
    """0 is the easiest."""
    problems: tuple[str, ...]
    alpha: float
    k: float
    at_compute: float
    prediction: float
    """-E[log pass_rate], nats."""
    low: float
    high: float
    steepening: float
    """How probable small models as bent as these are where the law holds (:func:`~modelyard.scaling.power_law.steepening`)."""

    @property
    def objection(self) -> str:
        """Why the law does not hold for this bucket; empty where nothing is to be seen."""
        if self.steepening >= STEEP:
            return ""
        return f"falls faster with every model, as what is learned all at once does (p = {self.steepening:.2g}): no law holds for it"

    @property
    def pass_rate(self) -> float:
        """The geometric mean over problems that the prediction stands for."""
        return float(np.exp(-self.prediction))


def counts_of(records: Sequence[Mapping[str, Any]], compute: float) -> Counts:
    """How a model did by its per-item records, a sample each. Raises ValueError naming an item that cannot be counted."""
    tries, passed = Counter[str](), Counter[str]()
    for record in records:
        item, score = record["item"], record["score"]
        if score not in (0, 1):
            raise ValueError(f"item {item}: score {score:g} is neither passed (1) nor failed (0)")
        tries[item] += 1
        passed[item] += int(score)
    first = next(iter(tries))
    if other := next((item for item, count in tries.items() if count != tries[first]), None):
        raise ValueError(f"item {other}: {tries[other]} samples, but item {first} has {tries[first]}")
    return Counts(compute, tries[first], {item: passed[item] for item in tries})


def buckets(small: Sequence[Counts], count: int, dropped: int) -> list[Bucket]:
    """Split the problems into ``count`` buckets by the small models' mean pass rate, the ``dropped`` hardest left out.

    Raises:
        ValueError: no models, models that tried different problems, counts out of range, or fewer problems than buckets.
    """
    if not small:
        raise ValueError("no models to judge difficulty by")
    problems = list(small[0].passed)
    for model in small:
        if set(model.passed) != set(problems):
            raise ValueError("the models tried different problems")
        if model.samples < 1 or any(not 0 <= passes <= model.samples for passes in model.passed.values()):
            raise ValueError(f"passes must lie between 0 and {model.samples} samples")
    mean = {problem: sum(model.passed[problem] / model.samples for model in small) / len(small) for problem in problems}
    order = sorted(problems, key=lambda problem: -mean[problem])[: len(problems) - dropped]
    if len(order) < count or count < 1:
        raise ValueError(f"{len(order)} problems do not fill {count} buckets")
    edges = np.linspace(0, len(order), count + 1).round().astype(int)
    made = []
    for start, stop in pairwise(edges):
        part = order[start:stop]
        solved = [problem for problem in part if all(model.passed[problem] > 0 for model in small)]
        made.append(Bucket(tuple(solved), tuple(problem for problem in part if problem not in solved)))
    return made


def mean_log_failure(model: Counts, problems: Sequence[str]) -> float:
    """-E_P[log pass_rate] in nats. Raises ValueError when a problem was never solved or there is none."""
    never = [problem for problem in problems if model.passed[problem] == 0]
    if never or not problems:
        raise ValueError(f"{never[0]} was never solved in {model.samples} samples" if never else "no problems")
    return float(-np.mean([np.log(model.passed[problem] / model.samples) for problem in problems]))


def fit(compute: Array, value: Array) -> tuple[Array, Array]:
    """alpha [R] and k [R] by least squares of log value [R, n] on log compute [n]."""
    x = np.log(compute) - np.log(compute).mean()
    y = np.log(value)
    slope = (y * x).sum(1) / (x * x).sum()
    with np.errstate(over="ignore"):
        return np.exp(y.mean(1) - slope * np.log(compute).mean()), -slope


def extrapolate(compute: Array, value: Array, at: float) -> Array:
    """What :func:`fit`'s laws [R] say at ``at`` FLOPs, reckoned from the middle of the data: alpha alone can be beyond arithmetic."""
    _, k = fit(compute, value)
    steps: Array = np.log(value).mean(1) - k * (np.log(at) - np.log(compute).mean())
    return np.exp(steps)


def forecast(small: Sequence[Counts], split: Sequence[Bucket], at_compute: float, seed: int, least: int = 5) -> list[CapabilityForecast]:
    """Predict every bucket that has at least ``least`` problems and is not saturated.

    Raises:
        ValueError: fewer than three models of different compute, or a target that is not beyond the largest.
    """
    compute = np.array([model.compute for model in small])
    if len(np.unique(compute)) < 3:
        raise ValueError(f"a law of two constants needs at least 3 models of different compute, got {len(np.unique(compute))}")
    if at_compute <= compute.max():
        raise ValueError(f"target {at_compute:.3g} FLOPs is not beyond the largest model ({compute.max():.3g})")
    generator = np.random.default_rng(seed)
    made = []
    for index, bucket in enumerate(split):
        if len(bucket.problems) < least:
            continue
        rates = np.array([[model.passed[problem] / model.samples for problem in bucket.problems] for model in small])
        measured = -np.log(rates).mean(1)
        if measured.min() <= 0:
            continue  # every sample of every problem passed: there is nothing left to fall
        alpha, k = fit(compute, measured[None])
        prediction = float(extrapolate(compute, measured[None], at_compute)[0])
        draws = _draws(rates, np.array([model.samples for model in small]), compute, measured, at_compute, generator)
        low, high = np.quantile(draws, [0.025, 0.975])
        bounds = min(float(low), prediction), max(float(high), prediction)
        bent = steepening([Point(*point) for point in zip(compute.tolist(), measured.tolist(), strict=True)], _noise(rates, small))
        made.append(CapabilityForecast(index, bucket.problems, float(alpha[0]), float(k[0]), at_compute, prediction, *bounds, bent))
    return made


def _noise(rates: Array, small: Sequence[Counts]) -> float:
    """Relative standard deviation of a bucket's -E[log pass rate] as its samples are redrawn, the mean over the models."""
    samples = np.array([model.samples for model in small])[:, None]
    deviations = np.sqrt(((1 - rates) / (rates * samples)).mean(1) / rates.shape[1])  # of log p by the delta method
    return float((deviations / -np.log(rates).mean(1)).mean())


def _draws(rates: Array, samples: Array, compute: Array, measured: Array, at: float, generator: np.random.Generator) -> Array:
    """Predictions [DRAWS] with problems resampled, counts [models, problems] redrawn (at least one pass), and the fit's scatter added."""
    chosen = generator.integers(0, rates.shape[1], (DRAWS, rates.shape[1]))
    passed = np.maximum(generator.binomial(samples[None, :, None].astype(int), rates[:, chosen].transpose(1, 0, 2)), 1)
    values = np.maximum(-np.log(passed / samples[None, :, None]).mean(2), 1e-6)
    alpha, k = fit(compute, measured[None])
    residual = np.log(measured) - np.log(alpha[0] * compute ** -k[0])
    freedom = max(len(compute) - 2, 1)
    scatter = np.sqrt((residual**2).sum() / generator.chisquare(freedom, DRAWS))
    noisy = values * np.exp(scatter[:, None] * generator.standard_normal(values.shape))
    draws: Array = extrapolate(compute, noisy, at) * np.exp(scatter * generator.standard_normal(DRAWS))
    return draws


Trend = Literal["rises", "falls", "flat", "turns up", "turns down"]


def trend(scores: Sequence[tuple[float, Estimate]]) -> Trend:
    """What a task's score does with compute: (FLOPs, score) of each model, in any order.

    ``falls`` is inverse scaling, and ``turns up`` is what GPT-4 did on Hindsight Neglect: down over the small models, then up. Two scores differ
    when their distance exceeds the quadrature sum of their intervals' halves, widened for the number of pairs (Bonferroni).
    """
    ordered = [estimate for _, estimate in sorted(scores, key=lambda pair: pair[0])]
    pairs = len(ordered) * (len(ordered) - 1) / 2
    widened = np.sqrt(2 * np.log(max(pairs, 1) * 20)) / Z95 if pairs > 1 else 1.0

    def change(i: int, j: int) -> int:
        one, other = ordered[i], ordered[j]
        margin = widened * np.hypot((one.high - one.low) / 2, (other.high - other.low) / 2)
        return int(np.sign(other.value - one.value)) if abs(other.value - one.value) > margin else 0

    n = len(ordered)
    for i in range(n):
        for j in range(i + 1, n):
            for k in range(j + 1, n):
                if change(i, j) * change(j, k) < 0:
                    return "turns up" if change(i, j) < 0 else "turns down"
    moves = {change(i, j) for i in range(n) for j in range(i + 1, n)} - {0}
    return "flat" if not moves else "rises" if moves == {1} else "falls"
