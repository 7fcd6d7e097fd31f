"""Best-of-n, the policy that nothing is trained for: of n samples of the SFT model the one that its reward model likes best.

Of N samples a prompt, all n up to N are measured at once and without bias (Nakano et al., arXiv:2112.09332, appendix I): the k-th lowest of the N by
the reward model is the best of n of them with probability C(k - 1, n - 1) / C(N, n). Its distance from the SFT model is at most
log n - (n - 1) / n nats (Stiennon et al., arXiv:2009.01325, appendix G.3), which no completion has to be scored for. Left out: how a distribution so
sharpened does on benchmarks that ask for likelihoods; it has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelyard.evals import gather
from modelyard.evals.asking import drawn
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.prepare import LateScorer
from modelyard.execution import ExecutionConfig
from modelyard.formats.results import read_results
from modelyard.model.subject import Subject
from modelyard.stats.estimate import Estimate, bootstrap_mean
from modelyard.stats.ties import Format, preferred

MICRO_BATCH = 64


def distance(n: int) -> float:
    """The most that best-of-n can be away from what it samples, nats a sequence."""
    return math.log(n) - (n - 1) / n


def weights(n: int, of: int) -> npt.NDArray[np.float64]:
    """[of]: probability that each of ``of`` samples, the worst first, is the best of ``n`` of them. Raises ValueError for n > of."""
    if not 0 < n <= of:
        raise ValueError(f"best of {n} of {of} samples")
    return np.array([math.comb(k, n - 1) / math.comb(of, n) for k in range(of)])


def win_rate(liked: npt.NDArray[np.float64], won: npt.NDArray[np.float64], n: int, seed: int) -> Estimate:
    """Share of prompts that the best of ``n`` wins; ``liked`` [prompts, N]: the reward model's scores, ``won`` [prompts, N]: 1, 0.5 or 0."""
    by_liking = np.take_along_axis(won, np.argsort(liked, axis=1, kind="stable"), axis=1)
    return bootstrap_mean((by_liking @ weights(n, liked.shape[1])).tolist(), seed)


def measure(inputs: Mapping[str, Path], name: str, sizes: Sequence[int], seed: int, execution: ExecutionConfig) -> dict[int, Estimate]:
    """n -> win rate over the SFT model's own completions, as the line's results hold them, by the gold reward model.

    Args:
        inputs: artifacts ``sft``, ``reward``, ``gold``, ``benchmarks`` and ``results`` of a line.
        name: the benchmark whose prompts are completed, which the line's preference gate reads.
        sizes: the values of n.
        seed: of the interval.
        execution: where it runs.
    """
    (benchmark,) = [one for one in gather.load(inputs["benchmarks"]) if one.name == name]
    rows = read_results(inputs["results"]).of("sft")[name]
    beaten = np.array([row["score"] for row in rows if not row.get("sample")])[:, None]
    liked, gold, precision = sampled(inputs, benchmark, max(sizes), execution)
    won = np.array(preferred(gold, np.broadcast_to(beaten, gold.shape), precision))
    return {n: win_rate(liked, won, n, seed) for n in sizes}


def sampled(
    inputs: Mapping[str, Path], benchmark: Benchmark, number: int, execution: ExecutionConfig
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Format]:
    """[prompts, ``number``] scores of the SFT model's samples by reward and gold reward model, and the precision of the latter."""
    # the line's own completions have the seeds from the benchmark's on; these are others
    decoding = benchmark.decoding.model_copy(update={"samples": number, "seed": benchmark.decoding.seed + 1})
    model = Subject.open("sft", inputs["sft"], execution, MICRO_BATCH)
    said = [one for _, _, one in drawn(model, benchmark.model_copy(update={"decoding": decoding}))]
    scorers = [LateScorer(inputs[role], execution) for role in ("reward", "gold")]
    liked, gold = (np.array(scorer.completed(said, benchmark.chat)).reshape(-1, number) for scorer in scorers)
    return liked, gold, scorers[1].precision
