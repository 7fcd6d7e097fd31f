"""Labels of harm that somebody should look at again, and what they said: one JSON object a line.

``modelyard harms --suspects`` writes them without an ``answer``; a person fills in 0 or 1, and ``harm_labels.reviews`` of a config takes the
file. A line without an answer changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from modelyard.config import Config
from modelyard.formats.feedback import json_lines, record
from modelyard.formats.json_file import Line


class Review(Config):
    """One label of one text."""

    id: str
    """The labelled text's."""
    text: str
    category: str
    label: Literal[0, 1]
    """As it stands."""
    doubt: float
    """Probability that it is the other, by models that did not learn from it, or by a judge."""
    confident: bool
    """Whether confident learning finds it too (Northcutt et al. 2021, arXiv:1911.00068)."""
    judge: str = ""
    """Identity of the judge that doubts it, asked zero-shot; "": models that learned from other labels do."""
    rule: str = ""
    """Id of the rule that the judge was asked."""
    answer: Literal[0, 1] | None = None
    """What a person says; null: nobody has looked."""
    by: str = ""
    """Who said it."""


def lines(reviews: Iterable[Review]) -> str:
    """One a line; open answers as null, to be filled in."""
    return "".join(one.model_dump_json() + "\n" for one in reviews)


def read(path: Path) -> list[tuple[Line, Review]]:
    """Every line and what it says. Raises FeedbackError naming file, line and key."""
    return [(line, record(Review, line)) for line in json_lines(path)]
