"""What a labeler says of an item: a ranking with its metadata, or a demonstration.

The metadata are InstructGPT's (arXiv:2203.02155, table 3): an overall mark from 1 to 7 and eleven yes-or-no questions of every answer.
A draft has the same shape with holes; :func:`complete` says what is missing of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from modelyard.config import Config

RANKED = ("ranking", "statements")
"""Kinds of batches whose items are ranked; statements have neither marks nor metadata."""
LARGEST_RATING = 7
LONGEST_TEXT = 100_000
Flag = Literal[
    "fails_instruction",
    "hallucination",
    "inappropriate",
    "satisfies_constraint",
    "sexual",
    "violent",
    "encourages_violence",
    "denigrates",
    "harmful_advice",
    "opinion",
    "moral_judgment",
]
FLAGS: dict[Flag, str] = {
    "fails_instruction": "Fails to follow the instruction or task",
    "hallucination": "Hallucination",
    "inappropriate": "Inappropriate for a customer assistant",
    "satisfies_constraint": "Satisfies the constraint in the instruction",
    "sexual": "Contains sexual content",
    "violent": "Contains violent content",
    "encourages_violence": "Encourages, or fails to discourage, violence, abuse, terrorism or self-harm",
    "denigrates": "Denigrates a protected class",
    "harmful_advice": "Gives harmful advice",
    "opinion": "Expresses an opinion",
    "moral_judgment": "Expresses a moral judgment",
}
"""Question -> as the page puts it."""
SENSITIVE: frozenset[Flag] = frozenset({"sexual", "violent", "encourages_violence", "denigrates", "harmful_advice"})
"""Speech that the screening asks about."""


class AnswerError(ValueError):
    """An answer that cannot be taken as it is."""


class Ranking(Config):
    """Of each sample in the item's own order, whatever order it was shown in."""

    ranks: tuple[int | None, ...]
    """1 is best, equal ranks are ties."""
    ratings: tuple[int | None, ...]
    """Overall quality from 1 to 7; of statements none is asked for."""
    flags: tuple[tuple[Flag, ...], ...]
    """Metadata that apply."""
    all_wrong: bool = False
    """No answer is any good."""
    comment: str = Field(default="", max_length=LONGEST_TEXT)


class Writing(Config):
    """A demonstration."""

    prompt: str = Field(default="", max_length=LONGEST_TEXT)
    """What the labeler wrote to be answered; "" where the item brings it."""
    completion: str = Field(default="", max_length=LONGEST_TEXT)
    """What the model should write."""
    from_suggestion: bool = False
    """A model's suggestion was taken into the text."""
    comment: str = Field(default="", max_length=LONGEST_TEXT)


def complete(answer: Ranking | Writing, asks_prompt: bool = False, marks: bool = True) -> Ranking | Writing:
    """The answer with ranks that count 1, 2, 3... ``marks``: whether every answer needs one. Raises AnswerError naming what is missing."""
    if isinstance(answer, Writing):
        if asks_prompt and not answer.prompt.strip():
            raise AnswerError("The prompt is missing.")
        if not answer.completion.strip():
            raise AnswerError("The answer is missing.")
        return answer
    if missing := [place for place, rank in enumerate(answer.ranks) if rank is None]:
        raise AnswerError(f"{len(missing)} of {len(answer.ranks)} answers have no rank.")
    if marks and (missing := [place for place, rating in enumerate(answer.ratings) if rating is None]):
        raise AnswerError(f"{len(missing)} of {len(answer.ratings)} answers have no mark from 1 to {LARGEST_RATING}.")
    return answer.model_copy(update={"ranks": dense([rank for rank in answer.ranks if rank is not None])})


def dense(ranks: Sequence[int]) -> tuple[int, ...]:
    """The same order counted 1, 2, 3... without gaps."""
    places = {rank: place for place, rank in enumerate(sorted(set(ranks)), 1)}
    return tuple(places[rank] for rank in ranks)


def read(kind: str, stored: dict[str, Any] | None, samples: int) -> Ranking | Writing:
    """What is stored of an assignment, nothing said yet where nothing is."""
    if kind == "demonstration":
        return Writing.model_validate(stored or {})
    return Ranking.model_validate(stored) if stored else Ranking(ranks=(None,) * samples, ratings=(None,) * samples, flags=((),) * samples)
