"""Comparisons and thumbs as examples that a policy is trained on: each completion behind its prompt, encoded as generation would have written it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from modelyard.formats.feedback import COMPARISONS, THUMBS, Comparison, Thumb, records
from modelyard.model.encoder import Encoder
from modelyard.model.kept import Kept
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.posttrain.rows.encoding import response
from modelyard.posttrain.rows.masking import Example, pad_examples

TRAINING = ("reward", "train")
"""Splits of comparisons and of thumbs that train a policy."""
SPLITS = (*TRAINING, "test")
"""And those that measure it; the gold reward model's comparisons are the judge's alone."""
EVALUATED_ROWS = 64
"""Examples that are padded together."""


class Ranked(NamedTuple):
    """What people said of completions of one prompt, with these as examples: a comparison, or a thumb, which is about one."""

    said: Comparison | Thumb
    examples: list[Example]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Of the completions, 1 is best; nothing is compared with the one of a thumb."""
        return (1,) if isinstance(self.said, Thumb) else self.said.ranks

    @property
    def thumbs(self) -> tuple[int, ...]:
        """Of the completions: 1 good, -1 bad, 0 neither."""
        if isinstance(self.said, Thumb):
            return (1 if self.said.label else -1,)
        return tuple(thumb(rank, self.ranks) for rank in self.ranks)

    @property
    def longest(self) -> int:
        """Positions of its longest example."""
        return max(example.length for example in self.examples)


def thumb(rank: int, ranks: Sequence[int]) -> int:
    """Sign of how many of ``ranks`` (1 is best) come after ``rank`` minus how many come before it."""
    beaten = sum(other > rank for other in ranks) - sum(other < rank for other in ranks)
    return (beaten > 0) - (beaten < 0)


class Found(NamedTuple):
    """The comparisons of a feedback artifact, and its thumbs where they are asked for."""

    fitting: list[Ranked]
    too_long: int
    """How many of :data:`SPLITS` have a completion that does not fit."""


def ranked(feedback: Path, encoder: Encoder, width: int, *, thumbs: bool) -> Found:
    """The comparisons of :data:`SPLITS` of which every completion fits in ``width`` positions, in the file's order, and behind them the thumbs."""
    compared = (one for one in records(feedback / COMPARISONS, Comparison) if one.split in SPLITS)
    found = [Ranked(one, [response(encoder, one.prompt, text) for text in one.completions]) for one in compared]
    if thumbs:
        found += [Ranked(one, [response(encoder, one.prompt, one.completion)]) for one in records(feedback / THUMBS, Thumb)]
    fitting = [one for one in found if one.longest <= width]
    return Found(fitting, len(found) - len(fitting))


def strangers(rated: Sequence[Ranked], width: int) -> list[list[Example]]:
    """Every completion behind the next prompt that differs from its own (after the last comes the first), whose beginning is cut to fit; behind
    its own where all are the same.

    KTO (arXiv:2402.01306, section 4.1) estimates the KL from such pairs, since the completions of a preference set are not the policy's.
    """
    prompts = [one.examples[0].prompt for one in rated]
    moved = []
    for one, other in zip(rated, next_others(prompts), strict=True):
        prompt = prompts[other]
        moved.append([Example(prompt[-max(1, width - len(example.completion) + 1) :], example.completion) for example in one.examples])
    return moved


def next_others(prompts: Sequence[list[int]]) -> list[int]:
    """Of every prompt the place of the next one that differs, around the end; of equal ones just the next."""
    size = len(prompts)
    found = [(at + 1) % size for at in range(size)]
    if all(prompt == prompts[0] for prompt in prompts):
        return found
    for at in reversed(range(2 * size)):  # twice around: a run of equal prompts may go over the end
        place, following = at % size, (at + 1) % size
        if prompts[place] == prompts[following]:
            found[place] = found[following]
    return found


def log_likelihoods(engine: Engine, examples: Sequence[Example], micro_batch: int, pad_id: int, kept: Kept | None = None) -> list[float]:
    """log p of every example's completion, in nats, the same on every rank; ``kept`` has those that were computed before."""
    order = sorted(range(len(examples)), key=lambda i: examples[i].length)
    sums = [0.0] * len(examples)
    for start in range(0, len(order), EVALUATED_ROWS):
        chosen = order[start : start + EVALUATED_ROWS]
        part = [examples[i] for i in chosen]
        evaluate = partial(_evaluated, engine, part, micro_batch, pad_id)
        found = kept.once([list(map(list, part))], evaluate, list[float]) if kept else evaluate()
        for i, value in zip(chosen, found, strict=True):
            sums[i] = value
    return sums


def _evaluated(engine: Engine, examples: Sequence[Example], micro_batch: int, pad_id: int) -> list[float]:
    rows = pad_examples(examples, pad_id)
    logprobs = engine.evaluate(Batch(rows.tokens, rows.labels, {}), micro_batch).cpu()
    return list[float]((logprobs * rows.mask).sum(dim=1).tolist())
