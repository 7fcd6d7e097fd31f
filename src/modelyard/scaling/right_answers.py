"""What a ladder's runs can do besides predicting text: how probable the right answers of a line's benchmarks are to them, and the forecast of the
main run's (GPT-4 report, section 3.2).

The probability of an answer after its prompt is the pass rate of samples at temperature 1, without the samples; a benchmark is asked as the
evals stage asks it, so its records of the main run say what came of the forecast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from modelyard.formats.continuations import Continuation, read_continuations
from modelyard.formats.forecast import LadderRun, SealedBucket
from modelyard.model.encoder import Encoder
from modelyard.model.subject import Subject
from modelyard.model.training.engine import Engine
from modelyard.scaling import capability
from modelyard.scaling.capability import CapabilityForecast

Problems = Mapping[str, Sequence[Continuation]]
"""Benchmark -> what is asked of it."""
Nats = Mapping[str, Mapping[str, float]]
"""Benchmark -> item -> -log of the probability of its right answer."""
ROWS = 64
"""Texts that are read at once."""


def problems(names: Sequence[str], continuations: Path, buckets: int = 0) -> Problems:
    """The named benchmarks of an artifact. Raises ValueError where it lacks one, or one has too few items for so many ``buckets`` (0: any)."""
    known = read_continuations(continuations)
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"{continuations}: no benchmark {missing[0]}")
    if few := [name for name in names if len(known[name]) < capability.LEAST * buckets]:
        count, least = len(known[few[0]]), capability.LEAST * buckets
        raise ValueError(f"forecast.benchmarks: {few[0]!r} has {count} items; {buckets} buckets take {least}, {capability.LEAST} each")
    return {name: known[name] for name in names}


def answers(engine: Engine, encoder: Encoder, asked: Problems) -> Nats:
    """How probable each right answer is to the model that the engine holds."""
    subject = Subject("run", engine, encoder, "", ROWS)
    return {name: dict(zip((one.item for one in items), _nats(subject, items), strict=True)) for name, items in asked.items()}


def _nats(subject: Subject, items: Sequence[Continuation]) -> list[float]:
    return [-found.total for (found,) in subject.likelihoods([[(one.context, one.text)] for one in items])]


def buckets(runs: Sequence[tuple[float, Nats]], names: Sequence[str], count: int, at_compute: float, seed: int) -> list[SealedBucket]:
    """The forecasts of every benchmark's buckets for a run of ``at_compute`` FLOPs; ``runs``: FLOPs of each small one, and what it said."""
    found: list[SealedBucket] = []
    for name in names:
        small = [capability.exact(compute, nats[name]) for compute, nats in runs]
        split = capability.buckets(small, count, dropped=0)
        found += [sealed(name, one) for one in capability.forecast(small, split, at_compute, seed)]
    return found


def sealed(benchmark: str, one: CapabilityForecast) -> SealedBucket:
    """A bucket's forecast as it is written down."""
    return SealedBucket(
        benchmark=benchmark,
        bucket=one.bucket,
        problems=one.problems,
        prediction=one.prediction,
        low=one.low,
        high=one.high,
        a=one.alpha,
        b=-one.k,
        c=one.c,
        objection=one.objection,
        points=tuple(LadderRun(**point._asdict()) for point in one.points),
    )
