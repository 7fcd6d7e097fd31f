"""How the slope of ln L over ln C changes over runs: whether it steepens or is flat, and what may still come of it where nobody has measured.

A law a C^b + c with c >= 0 only flattens; :mod:`modelyard.scaling.power_law` says what is made of runs that do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from modelyard.scaling.power_law import Point

STEEP = 0.01
"""A steepening as improbable as this is no noise."""


def steepening(points: Sequence[Point], noise_floor: float) -> float:
    """One-sided p-value of a parabola through (ln C, ln L) that bends down: small where larger runs gain more than the law allows."""
    return _below(points, noise_floor, 2)


def flatness(points: Sequence[Point], noise_floor: float) -> float:
    """One-sided p-value of a straight line through (ln C, ln L) that falls: large where larger runs gain nothing that can be told from noise."""
    return _below(points, noise_floor, 1)


def _below(points: Sequence[Point], noise_floor: float, degree: int) -> float:
    """How probable, were it 0, so low a leading coefficient of the polynomial through (ln C, ln L) is."""
    from scipy.stats import t as student

    coefficient, error = _leading(points, noise_floor, degree)
    return float(student.cdf(coefficient / error, len(points) - degree))


def _leading(points: Sequence[Point], noise_floor: float, degree: int) -> tuple[float, float]:
    """The leading coefficient of the polynomial through (ln C, ln L), ln C in standard deviations from its mean, and its standard error.

    The residuals' variance has the floor as one more degree of freedom, as the interval's has.
    """
    x, y = (np.log([getattr(p, name) for p in points]) for name in ("compute", "loss"))
    design = np.stack([((x - x.mean()) / x.std()) ** power for power in range(degree + 1)], 1)
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ y
    variance = (noise_floor**2 + float(((y - design @ coefficients) ** 2).sum())) / (len(points) - degree)
    return float(coefficients[degree]), math.sqrt(variance * inverse[degree, degree])


def steeper(
    points: Sequence[Point], at_compute: float, generator: np.random.Generator, noise_floor: float, bend: float, draws: int
) -> NDArray[np.float64]:
    """Factors [draws], 1 at most: what a slope that goes on to steepen takes off ``at_compute`` FLOPs' loss.

    The parabola's coefficient is normal around 0 before the runs are seen, with ``bend`` of their slope for its deviation, and drawn from what they
    leave of that. Away from the runs it acts by the part of the square that no straight line through them has.
    """
    x = np.log([p.compute for p in points])
    z, far = (x - x.mean()) / x.std(), (math.log(at_compute) - x.mean()) / x.std()
    before = bend * abs(_leading(points, noise_floor, 1)[0]) * float(x.std()) / 2
    coefficient, error = _leading(points, noise_floor, 2)
    kept = before**2 / (before**2 + error**2)
    drawn = kept * coefficient + math.sqrt(kept) * error * generator.standard_normal(draws)
    factors: NDArray[np.float64] = np.exp(np.minimum(drawn, 0.0) * max(far**2 - 1 - float((z**3).mean()) * far, 0.0))
    return factors
