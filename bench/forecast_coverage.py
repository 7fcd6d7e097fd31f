"""How often the forecast's intervals cover: simulated runs around known laws, forecast as the command does it, held against one more run.

``python -m bench.forecast_coverage [--trials 60]``. Four runs spaced like the published ladder's, three laws, noise below, at and above the
stated floor; then the joint fit on twelve runs of three sizes and four horizons; then pass rates of problems of rising difficulty, whose
-log falls as C^-0.2 with a scatter of each model's own, from four models at 33 times the compute of the largest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from bench.program import program
from modelyard.commands.forecast import NOISE
from modelyard.scaling import capability
from modelyard.scaling.capability import Tried
from modelyard.scaling.chinchilla import JointLaw, Run, fit_joint
from modelyard.scaling.power_law import Point, PowerLaw, forecast

LAWS = (PowerLaw(246.6, -0.111, 1.798), PowerLaw(34.12, -0.0563, 0.666), PowerLaw(9.4e3, -0.2, 2.2))
COMPUTE = np.array([7.2e19, 2.6e20, 9.7e20, 2.6e21])
JOINT = JointLaw(E=1.7, A=400.0, B=410.0, alpha=0.34, beta=0.28)
GRID = [(n, n * ratio) for n in (2e8, 4e8, 8e8) for ratio in (10.0, 20.0, 40.0, 100.0)]


def counted(trials: int, one: Callable[[int], tuple[float, float, float, float]]) -> str:
    """Share covered, mean half-width and root mean square error of ``one(seed) -> (prediction, low, high, truth)``."""
    rows = np.array([one(seed) for seed in range(trials)])
    prediction, low, high, truth = rows.T
    covered = ((low <= truth) & (truth <= high)).mean()
    width, error = ((high - low) / 2 / prediction).mean(), np.sqrt(((prediction / truth - 1) ** 2).mean())
    return f"covered {covered:4.0%}   +-{width:6.2%}   rms error {error:6.2%}"


def tried(generator: np.random.Generator, compute: float, scatter: float, samples: int, problems: int) -> Tried:
    """A model's passes at problems of rising difficulty."""
    level = 50 * compute**-0.2 * np.exp(scatter * generator.standard_normal())
    rates = np.exp(-(0.2 + 2 * np.arange(problems) / problems) * level)
    return capability.counted(compute, samples, {f"p{number}": int(generator.binomial(samples, rate)) for number, rate in enumerate(rates)})


def of_capability(trials: int, scatter: float, samples: int, problems: int, count: int) -> str:
    """Share of buckets whose interval covers what a larger model does, and of those to which there is an objection."""
    inside, objected = [], []
    for seed in range(trials):
        generator = np.random.default_rng((seed, 3))
        *small, large = (tried(generator, compute, scatter, samples, problems) for compute in (1e10, 3e10, 1e11, 3e11, 1e13))
        for one in capability.forecast(small, capability.buckets(small, count, 0), large.compute, seed):
            if solved := [problem for problem in one.problems if large.rates[problem]]:
                inside.append(one.low <= capability.mean_log_failure(large, solved) <= one.high)
                objected.append(bool(one.objection))
    return f"covered {np.mean(inside):4.0%} of {len(inside)} buckets   objected to {np.mean(objected):3.0%}"


def main(
    trials: int = 60,
) -> int:
    """Print the table."""

    def in_compute(law: PowerLaw, noise: float, reach: float) -> str:
        def one(seed: int) -> tuple[float, float, float, float]:
            generator = np.random.default_rng((seed, 1))
            points = [Point(float(c), law(c) * (1 + generator.normal(0, noise))) for c in COMPUTE]
            made = forecast(points, reach * COMPUTE[-1], seed, NOISE)
            return made.prediction, made.low, made.high, law(made.at_compute) * (1 + generator.normal(0, noise))

        return counted(trials, one)

    for law in LAWS:
        for reach in (6.0, 100.0):
            for noise in (0.0005, 0.0015, 0.004):
                print(f"b {law.b:7.4f}  reach {reach:4.0f}x  noise {noise:.2%}  {in_compute(law, noise, reach)}", flush=True)

    def joint(seed: int) -> tuple[float, float, float, float]:
        generator = np.random.default_rng((seed, 2))
        runs = [Run(n, d, JOINT(n, d) * (1 + generator.normal(0, 0.003))) for n, d in GRID]
        made = fit_joint(runs, seed, NOISE).predict(2e9, 4e10)
        return made.prediction, made.low, made.high, JOINT(2e9, 4e10) * (1 + generator.normal(0, 0.003))

    for scatter in (0.0, 0.03, 0.1):
        for samples, problems, buckets in ((200, 24, 3), (50, 48, 4), (100, 164, 6)):
            print(
                f"capability scatter {scatter:.0%}  {problems} problems x {samples}  {of_capability(trials, scatter, samples, problems, buckets)}"
            )
    print(f"joint      size 2.5x larger  noise 0.30%  {counted(max(1, trials // 2), joint)}")
    return 0


if __name__ == "__main__":
    sys.exit(program(main))
