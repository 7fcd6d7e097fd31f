"""Predictable scaling: fit L(C) = a C^b + c on small runs and say what the main run's loss will be, with an interval (GPT-4 report, equation 1).

For a given exponent b the best (a, c) is a linear problem, so the fit is a one-dimensional search over b with non-negative a and c; residuals are
relative. The interval is a parametric bootstrap: losses are redrawn with the noise seen around the fit (never less than a stated floor), refitted,
and the new run's own noise is added. Left out: a joint fit in parameters and tokens, and capability forecasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, nnls

Array = NDArray[np.float64]


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


class Forecast(NamedTuple):
    """A prediction with its 95% interval, the law behind it, and how well it would have predicted its own largest run."""

    prediction: float
    low: float
    high: float
    law: PowerLaw
    at_compute: float
    backtest_error: float
    """Relative error when the largest run is predicted from the others (needs four others; otherwise from three)."""
    points: tuple[Point, ...]


def fit(points: Sequence[Point]) -> PowerLaw:
    """Least relative squares for (a, b, c) with a, c >= 0 and b < 0. Needs three points of different compute; raises ValueError otherwise."""
    if len({point.compute for point in points}) < 3:
        raise ValueError(f"a power law with a constant needs at least 3 runs of different compute, got {len(points)}")
    compute, loss = np.array([p.compute for p in points]), np.array([p.loss for p in points])
    if not (np.isfinite(loss).all() and (loss > 0).all() and (compute > 0).all()):
        raise ValueError("losses and compute must be finite and positive")
    scale = float(np.exp(np.log(compute).mean()))
    grid = -np.geomspace(0.01, 2.0, 60)
    errors = [_solve(compute / scale, loss, b)[1] for b in grid]
    best = int(np.argmin(errors))
    bracket = (grid[min(best + 1, len(grid) - 1)], grid[max(best - 1, 0)])
    b = float(minimize_scalar(lambda x: _solve(compute / scale, loss, x)[1], bounds=bracket, method="bounded").x)
    (a, c), _ = _solve(compute / scale, loss, b)
    return PowerLaw(float(a) * scale**-b, b, float(c))


def _solve(compute: Array, loss: Array, b: float) -> tuple[Array, float]:
    solution, residual = nnls(np.stack([compute**b, np.ones_like(compute)], 1) / loss[:, None], np.ones_like(loss))
    return solution, float(residual)


def forecast(points: Sequence[Point], at_compute: float, seed: int, noise_floor: float, resamples: int = 400) -> Forecast:
    """Predict the loss at ``at_compute``.

    Args:
        noise_floor: least relative standard deviation of one run's loss (seed-to-seed noise); a perfect fit of few points is no proof of less.

    Raises:
        ValueError: fewer than four runs of different compute, or a target below the largest of them.
    """
    ordered = sorted(points)
    if len({point.compute for point in ordered}) < 4:
        raise ValueError(f"a forecast needs at least 4 runs of different compute, got {len({p.compute for p in ordered})}")
    if at_compute <= ordered[-1].compute:
        raise ValueError(f"forecast target {at_compute:.3g} FLOPs is not beyond the largest fitted run ({ordered[-1].compute:.3g})")
    law = fit(ordered)
    relative = np.array([point.loss / law(point.compute) - 1 for point in ordered])
    noise = max(noise_floor, float(np.sqrt((relative**2).sum() / max(len(ordered) - 3, 1))))
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        wobble = generator.normal(0.0, noise, len(ordered))
        again = fit([Point(p.compute, law(p.compute) * (1 + w)) for p, w in zip(ordered, wobble, strict=True)])
        draws.append(again(at_compute) * (1 + generator.normal(0.0, noise)))
    low, high = np.quantile(draws, [0.025, 0.975])
    prediction = law(at_compute)
    held = ordered[-1]
    return Forecast(
        prediction=prediction,
        low=min(float(low), prediction),
        high=max(float(high), prediction),
        law=law,
        at_compute=at_compute,
        backtest_error=fit(ordered[:-1])(held.compute) / held.loss - 1,
        points=tuple(ordered),
    )
