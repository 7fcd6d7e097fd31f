"""Predictable capability: -E_P[log pass_rate(C)] = alpha C^-k + c, bucket by bucket (GPT-4 report, section 3.2), and a watch for trends that turn.

The report's rules: the hardest problems are dropped (15 of HumanEval's 164), the rest is split into buckets of equal size by how the small
models do (six), and a bucket's P holds the problems that every model solves at least once, as lower pass rates cannot be estimated. Where the
report is silent: difficulty is the small models' mean pass rate, ties in the problems' order; a bucket with fewer than ``least`` problems
left makes no prediction; the easiest bucket is predicted and marked, as the report's own miss was there.

The report's law has no c. Where a problem has several right answers, or wrong ones that cannot be told from them, pass rates stay below 1 for ever,
and a law without c says too much at a distance: on the published ladder that docs/benchmarks.md names, it always did. So law and interval are
:mod:`modelyard.scaling.power_law`'s, with the noise of the counts as the floor; c is 0 where the models do not ask for one.

The law may only flatten. Hard problems also begin late and fall faster then, which the intervals allow for (``BEND``). What is learned all at once
(a carry in sums) falls faster and faster before it is there, and :func:`~modelyard.scaling.slopes.steepening` over the small models says so: such
a bucket carries an objection instead of a claim. So does every harder one, which lies further back on the same way, and a bucket that does not fall
yet, since nothing says when it will.

A pass rate is counted over samples, or exact: where one text is right, the probability of that text is the rate of samples at temperature 1, and no
problem is unsolved. Left out: the bias of log of an estimated pass rate (about -(1 - p) / 2np), which is small where problems are solved many times.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from modelyard.scaling import power_law, slopes
from modelyard.scaling.power_law import Array, Point
from modelyard.stats.estimate import Z95, Estimate

STEEP = 0.05
"""A steepening as improbable as this is no noise."""
CERTAINLY = 0.02
"""One as improbable as this says something of harder problems too."""
FALLS = 0.05
"""A fall that noise alone shows as often as this is none."""
LEAST_NOISE = 0.005
"""Relative standard deviation of a bucket's -E[log pass_rate] between models of one size, at least: samples without number leave their seeds."""
BEND = 0.25
"""How much of itself a bucket's slope changes while compute grows e-fold, a standard deviation over tasks (docs/benchmarks.md)."""
LEAST = 5
"""Problems of a bucket that is forecast, unless told."""


class Tried(NamedTuple):
    """How one model did."""

    compute: float
    """Training FLOPs of the model."""
    rates: Mapping[str, float]
    """Problem -> pass rate, 0 to 1."""
    samples: int | None
    """Tries behind each rate; None: the rates are exact."""


def counted(compute: float, samples: int, passed: Mapping[str, int]) -> Tried:
    """Of ``samples`` tries at each problem, so many ``passed``. Raises ValueError where the counts are none."""
    if samples < 1 or any(not 0 <= passes <= samples for passes in passed.values()):
        raise ValueError(f"passes must lie between 0 and {samples} samples")
    return Tried(compute, {problem: passes / samples for problem, passes in passed.items()}, samples)


def exact(compute: float, nats: Mapping[str, float]) -> Tried:
    """Problem -> -log of the probability that a sample is its right answer."""
    return Tried(compute, {problem: math.exp(-one) for problem, one in nats.items()}, None)


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
    c: float
    """What no compute takes away, nats."""
    at_compute: float
    prediction: float
    """-E[log pass_rate], nats."""
    low: float
    high: float
    points: tuple[Point, ...]
    """The small models: FLOPs, and -E[log pass_rate]."""
    steepening: float
    """How probable small models as bent as these are where the law holds (:func:`~modelyard.scaling.slopes.steepening`)."""
    flat: float
    """How probable a fall like theirs is where nothing changes with compute."""
    easier: bool
    """Whether an easier bucket certainly steepens."""

    @property
    def objection(self) -> str:
        """Why no law is claimed for this bucket; empty where nothing is to be seen."""
        if self.steepening < STEEP:
            return f"falls faster with every model, as what is learned all at once does (p = {self.steepening:.2g}): no law holds for it"
        if self.flat > FALLS:
            return f"does not clearly fall over the small models (p = {self.flat:.2g}): nothing says when it will"
        return "an easier bucket falls faster with every model, and this one lies further back on the same way" if self.easier else ""

    @property
    def pass_rate(self) -> float:
        """The geometric mean over problems that the prediction stands for."""
        return float(np.exp(-self.prediction))


def tried(records: Sequence[Mapping[str, Any]], compute: float) -> Tried:
    """How a model did by its per-item records: by the probability of the right answer where each says its ``nats``, else a sample each.

    Raises:
        ValueError: an item cannot be counted; the message names it.
    """
    known = {str(record["item"]): _nats(record) for record in records}
    nats = {item: one for item, one in known.items() if one is not None}
    if len(nats) == len(known):
        return exact(compute, nats)
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
    return counted(compute, tries[first], {item: passed[item] for item in tries})


def _nats(record: Mapping[str, Any]) -> float | None:
    """-log of the probability of the right answer; None where the record does not say it."""
    values = record.get("values")
    found = values.get("nats") if isinstance(values, Mapping) and "tokens" not in values else None  # with tokens it is of a whole text
    return float(found) if isinstance(found, int | float) and 0 <= found < math.inf else None


def buckets(small: Sequence[Tried], count: int, dropped: int) -> list[Bucket]:
    """Split the problems into ``count`` buckets by the small models' mean pass rate, the ``dropped`` hardest left out.

    Raises:
        ValueError: no models, models that tried different problems, or fewer problems than buckets.
    """
    if not small:
        raise ValueError("no models to judge difficulty by")
    problems = list(small[0].rates)
    if any(set(model.rates) != set(problems) for model in small):
        raise ValueError("the models tried different problems")
    mean = {problem: sum(model.rates[problem] for model in small) / len(small) for problem in problems}
    order = sorted(problems, key=lambda problem: -mean[problem])[: len(problems) - dropped]
    if len(order) < count or count < 1:
        raise ValueError(f"{len(order)} problems do not fill {count} buckets")
    edges = np.linspace(0, len(order), count + 1).round().astype(int)
    made = []
    for start, stop in pairwise(edges):
        part = order[start:stop]
        solved = [problem for problem in part if all(model.rates[problem] > 0 for model in small)]
        made.append(Bucket(tuple(solved), tuple(problem for problem in part if problem not in solved)))
    return made


def mean_log_failure(model: Tried, problems: Sequence[str]) -> float:
    """-E_P[log pass_rate] in nats. Raises ValueError when a problem was never solved or there is none."""
    never = [problem for problem in problems if model.rates[problem] == 0]
    if never or not problems:
        raise ValueError(f"{never[0]} was never solved in {model.samples} samples" if never else "no problems")
    return float(-np.mean([np.log(model.rates[problem]) for problem in problems]))


def forecast(small: Sequence[Tried], split: Sequence[Bucket], at_compute: float, seed: int, least: int = LEAST) -> list[CapabilityForecast]:
    """Predict every bucket that has at least ``least`` problems and is not saturated.

    Raises:
        ValueError: fewer than three models of different compute, or a target that is not beyond the largest.
    """
    compute = np.array([model.compute for model in small])
    if len(np.unique(compute)) < 3:
        raise ValueError(f"a law of three constants needs at least 3 models of different compute, got {len(np.unique(compute))}")
    if at_compute <= compute.max():
        raise ValueError(f"target {at_compute:.3g} FLOPs is not beyond the largest model ({compute.max():.3g})")
    made: list[CapabilityForecast] = []
    for index, bucket in enumerate(split):
        if len(bucket.problems) < least:
            continue
        rates = np.array([[model.rates[problem] for problem in bucket.problems] for model in small])
        points = [Point(model.compute, mean_log_failure(model, bucket.problems)) for model in small]
        if min(point.loss for point in points) <= 0:
            continue  # every sample of every problem passed: there is nothing left to fall
        easier = any(one.steepening < CERTAINLY for one in made)
        made.append(_predicted(index, bucket.problems, points, at_compute, _noise(rates, small), easier, seed))
    return made


def _predicted(
    index: int, problems: tuple[str, ...], points: Sequence[Point], at_compute: float, noise: float, easier: bool, seed: int
) -> CapabilityForecast:
    law = power_law.fit(points)
    low, high = power_law.interval(points, law, at_compute, np.random.default_rng((seed, index)), noise, BEND)
    bent = slopes.steepening(points, noise), slopes.flatness(points, noise)
    return CapabilityForecast(
        index, problems, law.a, -law.b, law.c, at_compute, law(at_compute), max(low, 0.0), high, tuple(points), *bent, easier
    )


def _noise(rates: Array, small: Sequence[Tried]) -> float:
    """Relative standard deviation of a bucket's -E[log pass rate] as its samples are redrawn, the mean over the models."""
    samples = np.array([model.samples or math.inf for model in small])[:, None]
    deviations = np.sqrt(((1 - rates) / (rates * samples)).mean(1) / rates.shape[1])  # of log p by the delta method
    return max(float((deviations / -np.log(rates).mean(1)).mean()), LEAST_NOISE)


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
