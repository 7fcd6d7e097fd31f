"""Comparisons as examples that a policy is trained on: each completion behind its prompt, encoded as generation would have written it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from modelyard.formats.feedback import COMPARISONS, Comparison, records
from modelyard.model.encoder import Encoder
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.posttrain.rows.encoding import response
from modelyard.posttrain.rows.masking import Example, pad_examples

SPLITS = ("reward", "test")
"""Comparisons that train a policy and that measure it; the gold reward model's are the judge's alone."""
EVALUATED_ROWS = 64
"""Examples that are padded together."""


class Ranked(NamedTuple):
    """A comparison with its completions as examples."""

    comparison: Comparison
    examples: list[Example]

    @property
    def longest(self) -> int:
        """Positions of its longest example."""
        return max(example.length for example in self.examples)


class Found(NamedTuple):
    """The comparisons of a feedback artifact."""

    fitting: list[Ranked]
    too_long: int
    """How many of :data:`SPLITS` have a completion that does not fit."""


def ranked(feedback: Path, encoder: Encoder, width: int) -> Found:
    """The comparisons of :data:`SPLITS` of which every completion fits in ``width`` positions, in the file's order."""
    compared = [one for one in records(feedback / COMPARISONS, Comparison) if one.split in SPLITS]
    found = [Ranked(one, [response(encoder, one.prompt, text) for text in one.completions]) for one in compared]
    fitting = [one for one in found if one.longest <= width]
    return Found(fitting, len(found) - len(fitting))


def strangers(comparisons: Sequence[Ranked], width: int) -> list[list[Example]]:
    """Every completion behind the prompt of the next comparison (the last one's behind the first's), whose beginning is cut to fit.

    KTO (arXiv:2402.01306, section 4.1) estimates the KL from such pairs, since the completions of a preference set are not the policy's.
    """
    moved = []
    for at, one in enumerate(comparisons):
        prompt = comparisons[(at + 1) % len(comparisons)].examples[0].prompt
        moved.append([Example(prompt[-max(1, width - len(example.completion) + 1) :], example.completion) for example in one.examples])
    return moved


def log_likelihoods(engine: Engine, examples: Sequence[Example], micro_batch: int, pad_id: int) -> list[float]:
    """log p of every example's completion, in nats, the same on every rank."""
    order = sorted(range(len(examples)), key=lambda i: examples[i].length)
    sums = [0.0] * len(examples)
    for start in range(0, len(order), EVALUATED_ROWS):
        chosen = order[start : start + EVALUATED_ROWS]
        rows = pad_examples([examples[i] for i in chosen], pad_id)
        logprobs = engine.evaluate(Batch(rows.tokens, rows.labels, {}), micro_batch).cpu()
        for i, value in zip(chosen, (logprobs * rows.mask).sum(dim=1).tolist(), strict=True):
            sums[i] = value
    return sums
