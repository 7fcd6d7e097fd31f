"""Records become a benchmark's metrics: over all items, over those that no training set holds, and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.labelled import errors
from modelyard.evals.metrics import METRICS, UNBOUNDED, by_item, confidences, mean
from modelyard.formats.records import Record
from modelyard.formats.results import Measured
from modelyard.judges.agreement import Agreement
from modelyard.stats.calibration import Bin, reliability
from modelyard.stats.estimate import Estimate


class Counted(Protocol):
    """What has to be known of a benchmark to count its records."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The one that stands for it first."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The values by which a judge sorts replies into a rubric's classes."""


def summarise(benchmark: Counted, records: Sequence[Record], seed: int = 0) -> dict[str, Estimate]:
    """The benchmark's metrics in its order, then its rubric's classes; those that the records cannot give (pass@100 of
    one sample) are left out.

    Raises:
        ValueError: there are no records, or a mean is asked of a value that a record lacks.
    """
    if not records:
        raise ValueError(f"{benchmark.name}: no records")
    made = {name: measured(benchmark, name, records, seed) for name in (*benchmark.metrics, *benchmark.classes)}
    return {name: estimate for name, estimate in made.items() if estimate is not None}


def measured(benchmark: Counted, name: str, records: Sequence[Record], seed: int) -> Estimate | None:
    """One metric. Raises ValueError naming the item whose record has no such value."""
    items = by_item(records)
    if name in METRICS:
        return METRICS[name](items, seed)
    if lacking := [r.item for r in records if name not in r.values]:
        raise ValueError(f"{benchmark.name}: item {lacking[0]} has no value {name!r}")
    return mean(items, lambda r: r.values[name], seed)


def in_parts(benchmark: Counted, records: Sequence[Record], seed: int) -> dict[str, Estimate]:
    """:func:`summarise`, and the first metric again over clean and over contaminated items, where there are any of
    either (GPT-4 report, appendix C); a rubric's classes also group by group."""
    found = summarise(benchmark, records, seed)
    if any(r.contaminated for r in records):
        for part, met in (("clean", False), ("contaminated", True)):
            some = [r for r in records if r.contaminated is met]
            if some and (estimate := measured(benchmark, benchmark.metrics[0], some, seed)):
                found[f"{benchmark.metrics[0]}_{part}"] = estimate
    for group in dict.fromkeys(r.group for r in records) if benchmark.classes else ():
        some = [r for r in records if r.group == group]
        for name in [name for name in found if name in benchmark.classes]:
            if estimate := measured(benchmark, name, some, seed):
                found[f"{name}/{group}"] = estimate
    return found


def by_group(records: Sequence[Record], seed: int = 0) -> dict[str, Estimate]:
    """Mean score of each group, and of ``de`` over all groups ``de/...``; empty where there is only one."""
    groups: dict[str, list[Record]] = {}
    for r in records:
        for name in dict.fromkeys((r.group.partition("/")[0], r.group)):
            groups.setdefault(name, []).append(r)
    if len({r.group for r in records}) < 2:
        return {}
    made = {name: mean(by_item(some), lambda r: r.score, seed) for name, some in groups.items()}
    return {name: estimate for name, estimate in made.items() if estimate}


def bins(records: Sequence[Record]) -> list[Bin]:
    """Confidence against accuracy: the bars behind ``calibration_error``."""
    return reliability(*confidences(by_item(records)))


def described(benchmark: Benchmark, graders: Sequence[Agreement] = ()) -> Measured:
    """What the gates and the card have to know of a benchmark beside its records; ``graders``: what the judge is worth that graded it."""
    return Measured(
        id=benchmark.id,
        metrics=benchmark.metrics,
        aspect=benchmark.aspect,
        sides=benchmark.sides,
        between_versions=benchmark.of_text and not benchmark.blank,
        images="blank" if benchmark.blank else "shown" if benchmark.seen else "",
        searched=not benchmark.packed,
        judge_errors=errors(benchmark, graders),
    )


def shares(benchmark: Benchmark, found: Mapping[str, Estimate]) -> list[str]:
    """The metrics among ``found`` that must lie in [0, 1]."""
    return [name for name in found if name.removesuffix("_clean").removesuffix("_contaminated") not in UNBOUNDED]
