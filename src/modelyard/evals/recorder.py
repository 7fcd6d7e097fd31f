"""What all records of a model on a benchmark share, filled in once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.item import Item
from modelyard.formats.records import Record


class Recorder(NamedTuple):
    """Fills in what all records of a model on a benchmark share."""

    model: str
    weights: str
    benchmark: Benchmark
    identity: str
    """The benchmark's id."""
    contaminated: Collection[str]
    """Items found in a training set."""

    def __call__(
        self,
        item: Item,
        prompt: str,
        output: str,
        parsed: str,
        score: float,
        logprobs: Sequence[float],
        note: str = "",
        *,
        choice: int = -1,
        choice_normalised: int = -1,
        values: Mapping[str, float] = {},
        sample: int = 0,
    ) -> Record:
        """One record; ``prompt`` is the text that the model was shown."""
        return Record(
            benchmark=self.benchmark.name,
            benchmark_id=self.identity,
            model=self.model,
            weights=self.weights,
            item=item.id,
            group=item.group,
            target=item.target,
            prompt_sha256=sha256_text(prompt),
            prompt=prompt,
            output=output,
            parsed=parsed,
            score=score,
            logprobs=tuple(round(value, 5) for value in logprobs),
            choice=choice,
            choice_normalised=choice_normalised,
            values=dict(values),
            sample=sample,
            contaminated=item.id in self.contaminated,
            images=item.images,
            note=note,
        )


def sha256_text(text: str) -> str:
    """sha256 (hex) of a text's UTF-8."""
    return sha256(text.encode()).hexdigest()
