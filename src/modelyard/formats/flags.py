"""Answers that users flagged as not factual, and those that somebody found right, as a ``feedback`` artifact holds them: one JSON object a line.

What a flag means to alignment is :mod:`modelyard.posttrain.judged.hallucination`'s; until then it is a record like people's others, with the side
of the split that its prompt lies on. An artifact holds the file only where flags were gathered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.formats.feedback import Prompt, check_prompt, records

FLAGS = "flags.jsonl"


class Flag(Config):
    """What a user or a labeler says of the facts of an answer."""

    id: str
    split: Literal["reward", "gold", "test"]
    """The split of the comparisons that it becomes."""
    source: str
    """File it comes from."""
    category: str = ""
    rater: str = ""
    """Who flagged or labelled; "" where that is not known."""
    prompt: Prompt
    completion: str = Field(min_length=1)
    """What the model said."""
    factual: bool
    """False: flagged as not factual; true: nobody flagged it, or a labeler found it right."""
    correction: str = ""
    """A corrected answer; "" where there is none."""

    @model_validator(mode="after")
    def _assistant_next(self) -> Flag:
        check_prompt(self.prompt)
        return self


def flags_of(feedback: Path) -> list[Flag]:
    """The flags of a ``feedback`` artifact. Raises FeedbackError for a bad line."""
    path = feedback / FLAGS
    return list(records(path, Flag)) if path.is_file() else []
