"""Two models on the same completions: win rates by a scorer model's value, and how far the policy is from SFT."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.evals.asking import drawn
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.remembered import Remembered
from modelyard.evals.scorers import preference
from modelyard.formats.records import Record
from modelyard.model.asked import Sampled
from modelyard.stats.estimate import Estimate, bootstrap_mean, proportion
from modelyard.stats.ties import Format

OWN, OTHER = "logp", "logp_sft"
"""Values of the policy's records: nats of the whole completion."""


def completions(model: Remembered, benchmark: Benchmark) -> list[Sampled]:
    """What a model says on a benchmark, item by item."""
    return [one for _, _, one in drawn(model, benchmark)]


def with_sums(records: Sequence[Record], own: Sequence[float], other: Sequence[float]) -> list[Record]:
    """The policy's records with log p of each completion under itself and under the model that KL is to."""
    return [
        record.model_copy(update={"values": {**record.values, OWN: ours, OTHER: theirs}})
        for record, ours, theirs in zip(records, own, other, strict=True)
    ]


def distance_of(records: Sequence[Record], seed: int) -> Estimate | None:
    """KL(policy || other) a sequence, nats: the mean over the policy's completions of log p under itself less log p under
    the other (the estimator k1 of Schulman 2020); None for records without both."""
    if not all(OWN in one.values and OTHER in one.values for one in records):
        return None
    return bootstrap_mean(means([(one.item, one.values[OWN] - one.values[OTHER]) for one in records]), seed)


def means(values: Sequence[tuple[str, float]]) -> list[float]:
    """(item, value) of every sample -> the mean of each item: several samples of an item are one item."""
    found: dict[str, list[float]] = {}
    for item, value in values:
        found.setdefault(item, []).append(value)
    return [sum(some) / len(some) for some in found.values()]


def wins(benchmark: Benchmark, ours: Sequence[Record], theirs: Sequence[Record], other: str, precision: Format) -> list[Record]:
    """Item by item, 1 where our completion scores higher, 0.5 for a tie; ``precision``: the scorer model's."""
    name = f"{benchmark.name}_over_{other}"
    identity = benchmark.model_copy(update={"name": name, "scorer": "preference", "metrics": ("win_rate",)}).id
    return [
        one.model_copy(
            update={
                "benchmark": name,
                "benchmark_id": identity,
                "score": preference(one.score, two.score, precision),
                "note": f"score {one.score:.4f} against {two.score:.4f}: {two.output}",
            }
        )
        for one, two in zip(ours, theirs, strict=True)
    ]


def win_rates(records: Sequence[Record], other: str) -> dict[str, Estimate]:
    """Win rate over all items and, where training met any, over the clean and over the contaminated, ties counted half."""
    parts = {"": list(records)}
    if any(r.contaminated for r in records):
        for part, met in (("_clean", False), ("_contaminated", True)):
            parts[part] = [r for r in records if r.contaminated is met]
    scores = {part: means([(r.item, r.score) for r in some]) for part, some in parts.items() if some}
    return {f"win_rate_over_{other}{part}": proportion(sum(some), len(some)) for part, some in scores.items()}
