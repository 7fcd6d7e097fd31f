"""L(N, D) = E + A/N^alpha + B/D^beta, fitted over all sizes and token horizons at once (Hoffmann et al. 2022, arXiv:2203.15556, section 3.3).

Equation 3 of that section: the Huber loss (delta 1e-3) of log L around the log-sum-exp of the three terms, minimised by L-BFGS from a grid of
starts, best one kept. What is searched is (log A', log B', log E, log alpha, log beta), with A' and B' the terms at the geometric means of N
and D, so that the five numbers are of one size and need no bounds.

The interval: every draw weighs the runs anew (Bayesian bootstrap, Rubin 1981), refits from the best start, and adds a run's own scatter,
whose size is drawn from what the residuals allow. A law that is a little wrong strays beyond the sizes it was fitted to, which no bootstrap within
them sees; so a larger model deviates besides, by as much as the runs of the largest size from the law of the smaller ones, in proportion to the
reach in ln N.
Left out: learning-rate or data-mix terms; the runs must share one recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from modelyard.scaling.power_law import LEAST_WEIGHT, Array

DELTA = 1e-3
DRAWS = 200
LEAST_RUNS = 6
ONE_SIZE = 0.01
"""Runs whose ln N agree to this are of one size."""
SAME_HORIZON = 1.5
"""Tokens per parameter that differ by less than this factor are one horizon; published multiples are a factor of two apart."""


class Run(NamedTuple):
    """One finished training run."""

    params: float
    """N, by one definition over all runs."""
    tokens: float
    """D, training tokens."""
    loss: float
    """Held-out loss, nats a token."""

    @property
    def compute(self) -> float:
        """6 N D, FLOPs."""
        return 6 * self.params * self.tokens


class JointLaw(NamedTuple):
    """L(N, D) = E + A/N^alpha + B/D^beta."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def __call__(self, params: float, tokens: float) -> float:
        """Loss of ``params`` parameters trained on ``tokens`` tokens."""
        return float(self.E + self.A * params**-self.alpha + self.B * tokens**-self.beta)


class JointPrediction(NamedTuple):
    """Loss at one (N, D) with its 95% interval."""

    params: float
    tokens: float
    prediction: float
    low: float
    high: float


class Reach(NamedTuple):
    """How far from the fitted sizes a model lies, in steps as long as the ladder's last in ln N."""

    largest: float
    """N of the largest size."""
    step: float
    """ln of its N over that of the next."""

    def __call__(self, params: float) -> float:
        """0 within the ladder; 1 a step beyond it."""
        return max(0.0, float(np.log(params / self.largest)) / self.step)


class JointFit(NamedTuple):
    """The law, laws of the bootstrap draws, and how runs and sizes deviate from it in each draw (relative)."""

    law: JointLaw
    draws: tuple[JointLaw, ...]
    deviation: Array
    """[DRAWS], of the new run alone."""
    drift: Array
    """[DRAWS], of every run one step beyond the ladder; zeros where the ladder is too short to tell."""
    reach: Reach

    def predict(self, params: float, tokens: float) -> JointPrediction:
        """Loss at ``params`` and ``tokens`` with its 95% interval. Raises ValueError unless both are positive and finite."""
        if not (0 < params < float("inf") and 0 < tokens < float("inf")):
            raise ValueError(f"parameters and tokens must be positive and finite, got {params:g} and {tokens:g}")
        prediction = self.law(params, tokens)
        losses = np.array([law(params, tokens) for law in self.draws]) * (1 + self.deviation + self.reach(params) * self.drift)
        low, high = np.quantile(losses, [0.025, 0.975])
        return JointPrediction(params, tokens, prediction, min(float(low), prediction), max(float(high), prediction))


class _Solved(NamedTuple):
    """The best five numbers and what they were fitted to: logs [n, 2], log losses [n], their centre [3]."""

    best: Array
    logs: Array
    target: Array
    centre: Array


def fit_law(runs: Sequence[Run]) -> JointLaw:
    """The law alone. Raises ValueError as :func:`fit_joint`."""
    solved = _solve(runs)
    return _law(solved.best, solved.centre)


def fit_joint(runs: Sequence[Run], seed: int, noise_floor: float) -> JointFit:
    """Fit the law to runs of several sizes and horizons, with bootstrap draws for intervals.

    Raises:
        ValueError: fewer than six runs, values that are not positive and finite, fewer than three sizes, or one token horizon only (N and D
            then move together and their terms cannot be told apart).
    """
    best, logs, target, centre = _solve(runs)
    generator = np.random.default_rng(seed)
    weights = np.maximum(generator.dirichlet(np.ones(len(runs)), DRAWS) * len(runs), LEAST_WEIGHT)
    axes = _axes(best, logs)
    draws = tuple(_law(_minimise(best, logs, target, weight, axes)[0], centre) for weight in weights)
    relative = np.exp(target - _log_loss(best, logs)[0]) - 1
    deviation = _deviations(generator, noise_floor**2 + float((relative**2).sum()), max(len(runs) - 5, 0) + 1)
    missed, reach = _largest_size_missed(runs)
    drift = _deviations(generator, noise_floor**2 + float((missed**2).sum()), len(missed) + 1) if len(missed) else np.zeros(DRAWS)
    return JointFit(_law(best, centre), draws, deviation, drift, reach)


def _deviations(generator: np.random.Generator, squares: float, freedom: int) -> Array:
    """Normal deviations [DRAWS], the size of each drawn from what ``freedom`` deviations with this sum of squares allow."""
    size = np.sqrt(squares / generator.chisquare(freedom, DRAWS))
    drawn: Array = size * generator.standard_normal(DRAWS)
    return drawn


def _largest_size_missed(runs: Sequence[Run]) -> tuple[Array, Reach]:
    """Relative errors of the law of the smaller sizes for the largest one's runs, none where they are too few to fit; and what a reach is."""
    sizes = sorted({round(float(np.log(run.params)) / ONE_SIZE): run.params for run in runs}.values())
    reach = Reach(sizes[-1], float(np.log(sizes[-1] / sizes[-2])))
    largest = [run for run in runs if np.log(sizes[-1] / run.params) < ONE_SIZE]
    try:
        law = fit_law([run for run in runs if run not in largest])
    except ValueError:
        return np.zeros(0), reach
    return np.array([law(run.params, run.tokens) / run.loss - 1 for run in largest]), reach


def _solve(runs: Sequence[Run]) -> _Solved:
    table = np.array([(run.params, run.tokens, run.loss) for run in runs], dtype=np.float64).reshape(-1, 3)
    if len(runs) < LEAST_RUNS:
        raise ValueError(f"a joint fit of five constants needs at least {LEAST_RUNS} runs, got {len(runs)}")
    if not (np.isfinite(table).all() and (table > 0).all()):
        raise ValueError("parameters, tokens and losses must be finite and positive")
    if len(np.unique(np.round(np.log(table[:, 0]), 2))) < 3:
        raise ValueError("a joint fit needs runs of at least three sizes")
    if spread(table[:, 1] / table[:, 0]) < SAME_HORIZON:
        raise ValueError("all runs lie on one token horizon: parameters and tokens cannot be told apart; fit in compute instead")
    centre = np.log(table).mean(0)
    logs = np.log(table[:, :2]) - centre[:2]
    target = np.log(table[:, 2])
    ones, alone = np.ones(len(runs)), np.eye(5)
    low, high = np.log(0.15), np.log(0.5)
    starts = product((centre[2] - 1.5,), (centre[2] - 1.5,), (centre[2] - 0.5, centre[2] - 2.0), (low, high), (low, high))
    best = min((_minimise(np.array(start), logs, target, ones, alone) for start in starts), key=lambda found: found[1])[0]
    best = _minimise(best, logs, target, ones, _axes(best, logs), tolerance=1e-13)[0]
    return _Solved(best, logs, target, centre)


def spread(values: Array) -> float:
    """Largest over smallest."""
    return float(values.max() / values.min())


def _law(found: Array, centre: Array) -> JointLaw:
    a, b, e, alpha, beta = (float(x) for x in (*found[:3], *np.exp(found[3:])))
    return JointLaw(
        E=float(np.exp(e)), A=float(np.exp(a + alpha * centre[0])), B=float(np.exp(b + beta * centre[1])), alpha=alpha, beta=beta
    )


def _log_loss(found: Array, logs: Array) -> tuple[Array, Array]:
    """log L [n] of centred log N and log D [n, 2], and its gradient [n, 5]."""
    a, b, e = found[:3]
    falls = np.exp(found[3:]) * logs  # [n, 2]
    terms = np.stack([a - falls[:, 0], b - falls[:, 1], np.full(len(logs), e)], 1)
    total = np.logaddexp.reduce(terms, axis=1)
    share = np.exp(terms - total[:, None])
    return total, np.column_stack([share, -share[:, :2] * falls])


def _axes(best: Array, logs: Array) -> Array:
    """Directions [5, 5] in which the squared loss around ``best`` is equally curved: a draw then takes tens of steps rather than hundreds."""
    gradient = _log_loss(best, logs)[1] / DELTA
    values, vectors = np.linalg.eigh(gradient.T @ gradient)
    return vectors / np.sqrt(np.maximum(values, values.max() * 1e-9))


def _minimise(start: Array, logs: Array, target: Array, weights: Array, axes: Array, tolerance: float = 1e-5) -> tuple[Array, float]:
    """The best five numbers, searched from ``start`` along ``axes`` [5, 5], and their weighted Huber loss in units of DELTA^2."""
    from scipy.optimize import minimize

    def objective(moved: Array) -> tuple[float, Array]:
        value, gradient = _log_loss(start + axes @ moved, logs)
        residual = (value - target) / DELTA
        slope = np.clip(residual, -1, 1)
        huber = 0.5 * slope**2 + np.abs(residual) - np.abs(slope)  # a far residual is never squared: that overflows
        return float((weights * huber).sum()), ((weights * slope / DELTA) @ gradient) @ axes

    result = minimize(objective, np.zeros(5), jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": tolerance})
    return start + axes @ result.x, float(result.fun)
