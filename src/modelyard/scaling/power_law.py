"""L(C) = a C^b + c: the fit, and the forecast of a larger run with an honest interval (GPT-4 report, section 3; Henighan et al. 2020, equation 1.1).

For a given exponent b the best (a, c) is a linear problem, so a fit is a one-dimensional search over b with a, c >= 0; residuals are relative.

The interval has to be honest with four runs and three constants, where the residuals say next to nothing. Every draw (1) weighs the runs anew
(the Bayesian bootstrap, Rubin 1981: all runs stay in, as fewer than three would fit anything), (2) redraws their losses around the fit with a
noise whose size is itself drawn from what the residuals and the stated floor allow (a scaled inverse chi-squared with one degree of freedom
for the floor), (3) refits, and (4) adds the new run's own noise. Simulated coverage is in docs/decisions.md.

All of that supposes that the runs follow the law, whose slope of ln L over ln C may only flatten. Slopes of small models steepen as well (models too
narrow for their vocabulary, docs/benchmarks.md). So (5) the lower end is of draws that fall by what the slope may still steepen: a change that is
drawn from what a parabola through the runs says of it, held against how much slopes change elsewhere (``bend``). Runs that show an even slope over a
wide range leave nothing of it; few runs in a narrow range cannot tell, and their interval reaches further down. Where the runs themselves steepen
more than noise does, :func:`~modelyard.scaling.slopes.steepening` says so. Left out: what the runs cannot show, such as a change of the recipe or
data that run out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.forecast import LadderRun, LargestRun, SealedForecast
from modelyard.scaling.slopes import STEEP, steepening, steeper

Array = NDArray[np.float64]
EXPONENTS: Array = -np.geomspace(0.01, 2.0, 120)
"""Where b is looked for."""
DRAWS = 600
BEND = 0.03
"""How much of itself the slope of a loss changes while compute grows e-fold, a standard deviation over kinds of runs (docs/benchmarks.md)."""
LEAST_WEIGHT = 1e-3
"""Of a run in a bootstrap draw, so that three different runs always remain."""


class Point(NamedTuple):
    """One finished training run."""

    compute: float
    """Training FLOPs."""
    loss: float
    """Held-out loss, nats a token."""


class PowerLaw(NamedTuple):
    """L(C) = a C^b + c with C in FLOPs."""

    a: float
    b: float
    c: float

    def __call__(self, compute: float) -> float:
        """Loss at ``compute`` FLOPs."""
        return self.a * compute**self.b + self.c


class Backtest(NamedTuple):
    """The largest run, predicted from the others."""

    compute: float
    """Training FLOPs of the run that was left out."""
    predicted: float
    """Its loss by the law fitted without it."""
    measured: float
    """Its loss."""

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1


class Forecast(NamedTuple):
    """A prediction with its 95% interval, the law behind it, and how well it would have predicted its own largest run."""

    prediction: float
    low: float
    high: float
    law: PowerLaw
    at_compute: float
    backtest: Backtest | None
    """None where fewer than three runs are left without the largest."""
    points: tuple[Point, ...]
    steepening: float
    """How probable runs as bent as these are where the law holds (:func:`~modelyard.scaling.slopes.steepening`)."""

    @property
    def objection(self) -> str:
        """Why the law does not hold for these runs; empty where nothing is to be seen."""
        if self.steepening >= STEEP:
            return ""
        return (
            f"the runs fall faster with more compute, which no a C^b + c does (p = {self.steepening:.2g}): the interval cannot be trusted"
        )


def fit(points: Sequence[Point]) -> PowerLaw:
    """Least relative squares for (a, b, c) with a, c >= 0 and b < 0. Needs three runs of different compute; raises ValueError otherwise."""
    from scipy.optimize import minimize_scalar

    distinct = len({point.compute for point in points})
    if distinct < 3:
        raise ValueError(f"a power law with a constant needs at least 3 runs of different compute, got {distinct}")
    compute, loss = np.array([p.compute for p in points]), np.array([p.loss for p in points])
    if not (np.isfinite(loss).all() and np.isfinite(compute).all() and (loss > 0).all() and (compute > 0).all()):
        raise ValueError("losses and compute must be finite and positive")
    scale = float(np.exp(np.log(compute).mean()))
    weights = np.ones((1, len(points)))

    def solve(exponents: Array) -> tuple[Array, Array, Array]:
        return _solve(compute / scale, loss[None], weights, exponents)

    best = int(solve(EXPONENTS)[2][0].argmin())
    bracket = (float(EXPONENTS[min(best + 1, len(EXPONENTS) - 1)]), float(EXPONENTS[max(best - 1, 0)]))
    objective = minimize_scalar(lambda b: float(solve(np.array([b]))[2][0, 0]), bounds=bracket, method="bounded", options={"xatol": 1e-10})
    b = float(objective.x)
    a, c, _ = solve(np.array([b]))
    return PowerLaw(float(a[0, 0]) * scale**-b, b, float(c[0, 0]))


def _solve(compute: Array, loss: Array, weights: Array, exponents: Array) -> tuple[Array, Array, Array]:
    """The best a, c >= 0 and their squared relative error, each [R, G], for G exponents and R sets of losses and weights [R, n]."""
    weight = weights / loss**2
    total = weight.sum(1, keepdims=True)
    power = compute[None, :] ** exponents[:, None]  # [G, n]
    mean_x, mean_y = weight @ power.T / total, (weight * loss).sum(1, keepdims=True) / total
    x, y = power[None] - mean_x[:, :, None], (loss - mean_y)[:, None, :]  # [R, G, n]
    a = np.maximum((weight[:, None, :] * x * y).sum(2) / (weight[:, None, :] * x * x).sum(2), 0.0)
    c = mean_y - a * mean_x
    through_zero = (weight * loss) @ power.T / (weight @ (power**2).T)
    a, c = np.where(c < 0, through_zero, a), np.maximum(c, 0.0)
    error = (weight[:, None, :] * (a[:, :, None] * power[None] + c[:, :, None] - loss[:, None, :]) ** 2).sum(2)
    return a, c, error


def forecast(points: Sequence[Point], at_compute: float, seed: int, noise_floor: float, least: int = 4, bend: float = BEND) -> Forecast:
    """Predict the loss at ``at_compute`` FLOPs.

    Args:
        noise_floor: least relative standard deviation of one run's loss (seed-to-seed noise); a perfect fit of few points is no proof of less.
        least: runs of different compute that are needed; three fit any law exactly, so four is the least that can be wrong.
        bend: how much of itself the slope changes while compute grows e-fold, a standard deviation; 0: the law holds.

    Raises:
        ValueError: fewer than ``least`` runs of different compute, a target that is not beyond the largest of them, or a loss that does not
            fall with compute.
    """
    ordered = sorted(points)
    distinct = len({point.compute for point in ordered})
    if distinct < least:
        raise ValueError(f"a forecast needs at least {least} runs of different compute, got {distinct}")
    if not (np.isfinite(at_compute) and at_compute > ordered[-1].compute):
        raise ValueError(f"forecast target {at_compute:.3g} FLOPs is not beyond the largest fitted run ({ordered[-1].compute:.3g})")
    law = fit(ordered)
    if not all(math.isfinite(x) for x in law):
        raise ValueError(
            f"no law fits runs of {ordered[0].compute:.3g} to {ordered[-1].compute:.3g} FLOPs: their span is beyond arithmetic"
        )
    if law(ordered[0].compute) - law(ordered[-1].compute) <= 1e-9 * law(ordered[-1].compute):
        raise ValueError(f"the loss does not fall with compute in these {len(ordered)} runs; nothing can be forecast from them")
    return Forecast(
        law(at_compute),
        *interval(ordered, law, at_compute, np.random.default_rng(seed), noise_floor, bend),
        law,
        at_compute,
        backtest(ordered),
        tuple(ordered),
        steepening(ordered, noise_floor),
    )


def interval(
    points: Sequence[Point], law: PowerLaw, at_compute: float, generator: np.random.Generator, noise_floor: float, bend: float
) -> tuple[float, float]:
    """Between which losses a run of ``at_compute`` FLOPs lies 95 times in 100, by the five steps of the module's docstring; never beside the law."""
    draws, prediction = _draws(points, law, at_compute, generator, noise_floor), law(at_compute)
    bent = draws * steeper(points, at_compute, generator, noise_floor, bend, DRAWS) if bend else draws
    return min(float(np.quantile(bent, 0.025)), prediction), max(float(np.quantile(draws, 0.975)), prediction)


def _draws(points: Sequence[Point], law: PowerLaw, at_compute: float, generator: np.random.Generator, noise_floor: float) -> Array:
    """Losses [DRAWS] that a run of ``at_compute`` FLOPs may have where the law holds."""
    compute = np.array([p.compute for p in points])
    fitted = np.array([law(c) for c in compute])
    relative = np.array([p.loss for p in points]) / fitted - 1
    freedom = max(len(points) - 3, 0) + 1
    noise = np.sqrt((noise_floor**2 + float((relative**2).sum())) / generator.chisquare(freedom, DRAWS))
    weights = np.maximum(generator.dirichlet(np.ones(len(points)), DRAWS) * len(points), LEAST_WEIGHT)
    losses = np.maximum(fitted * (1 + noise[:, None] * generator.standard_normal((DRAWS, len(points)))), 0.05 * fitted)
    scale = float(np.exp(np.log(compute).mean()))
    a, c, error = _solve(compute / scale, losses, weights, EXPONENTS)
    best = error.argmin(1)[:, None]
    chosen_a, chosen_c = (np.take_along_axis(x, best, 1)[:, 0] for x in (a, c))
    predicted = chosen_a * (at_compute / scale) ** EXPONENTS[best[:, 0]] + chosen_c
    draws: Array = predicted * (1 + noise * generator.standard_normal(DRAWS))
    return draws


def backtest(ordered: Sequence[Point]) -> Backtest | None:
    """Leave the largest run out (all of its seeds) and predict it from the others."""
    largest = ordered[-1].compute
    rest, held = [p for p in ordered if p.compute < largest], [p.loss for p in ordered if p.compute == largest]
    if len({point.compute for point in rest}) < 3:
        return None
    return Backtest(largest, fit(rest)(largest), sum(held) / len(held))


def sealed(result: Forecast) -> SealedForecast:
    """A forecast as it is written down."""
    test = result.backtest
    return SealedForecast(
        prediction=result.prediction,
        low=result.low,
        high=result.high,
        **result.law._asdict(),
        at_compute=result.at_compute,
        backtest=LargestRun(**test._asdict(), error=test.error) if test else None,
        steepening=result.steepening,
        objection=result.objection,
        points=tuple(LadderRun(**point._asdict()) for point in result.points),
    )
