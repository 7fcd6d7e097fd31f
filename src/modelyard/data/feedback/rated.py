"""What people said of answers in a file of their own, as records: comparisons, thumbs and flags, each with the side of the split that it lies on.

A rater who is held out is only measured on, so what they say of a prompt that is trained on is dropped. Thumbs train a policy, and comparisons of
the gold reward model's share of prompts train the judge of policies, so a thumb about such a prompt is dropped too: a policy that learned from
it could have been shown its judge's opinion. Flags become comparisons, so they lie where these would. The functions give the record, or the reason
why there is none.
"""

from __future__ import annotations

from typing import Literal

from modelyard.data.corpus.splits import fraction
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.data.feedback.files import Entry, FeedbackFile
from modelyard.formats.feedback import Comparison, Thumb
from modelyard.formats.flags import Flag

Side = Literal["held_out", "gold", "trained"]
Split = Literal["reward", "gold", "test"]
SPLITS: dict[Side, Split] = {"held_out": "test", "gold": "gold", "trained": "reward"}
"""Side -> split of a comparison on it."""


def comparison(config: FeedbackConfig, file: FeedbackFile, entry: Entry, place: float) -> Comparison | str:
    """The entry as a comparison; ``place`` in [0, 1) is where its prompt (or user) falls."""
    side = side_of(config, place)
    if side != "held_out" and _stranger(config, entry):
        return "held_out_rater"
    return Comparison(
        id=entry.id,
        split=SPLITS[side],
        source=file.name,
        category=entry.category,
        rater=entry.rater,
        prompt=entry.prompt,
        completions=entry.completions,
        ranks=entry.ranks,
        scores=entry.scores,
    )


def thumb(config: FeedbackConfig, file: FeedbackFile, entry: Entry, place: float) -> Thumb | str:
    """The entry, which has a label, as a thumb."""
    assert entry.label is not None
    side = side_of(config, place)
    if side == "gold":
        return "gold_prompt"
    if side == "trained" and _stranger(config, entry):
        return "held_out_rater"
    return Thumb(
        id=entry.id,
        split="test" if side == "held_out" else "train",
        source=file.name,
        category=entry.category,
        rater=entry.rater,
        prompt=entry.prompt,
        completion=entry.completions[0],
        label=entry.label,
    )


def flag(config: FeedbackConfig, file: FeedbackFile, entry: Entry, place: float) -> Flag | str:
    """The entry, which says whether it is factual, as a flag."""
    assert entry.label is not None
    side = side_of(config, place)
    if side != "held_out" and _stranger(config, entry):
        return "held_out_rater"
    return Flag(
        id=entry.id,
        split=SPLITS[side],
        source=file.name,
        category=entry.category,
        rater=entry.rater,
        prompt=entry.prompt,
        completion=entry.completions[0],
        factual=entry.label,
        correction=entry.correction,
    )


def side_of(config: FeedbackConfig, place: float) -> Side:
    """Whether what falls at ``place`` is only measured on, is the gold reward model's, or trained on."""
    if place < config.splits.held_out:
        return "held_out"
    return "gold" if place < config.splits.held_out + config.splits.gold else "trained"


def _stranger(config: FeedbackConfig, entry: Entry) -> bool:
    """Whether a rater's opinions are only measured on."""
    return bool(entry.rater) and fraction(f"{config.seed}:rater:{entry.rater}") < config.splits.held_out_raters
