"""The shapes in which a line of a user's own feedback may come (:mod:`modelyard.data.feedback.files` reads them)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from modelyard.config import Config
from modelyard.formats.feedback import MOST_COMPLETIONS, Conversation, Prompt, PromptSource

Shape = Literal["messages", "instructions", "pairs", "transcripts", "ranked", "prompts"]


class Row(Config):
    """What may stand in a line of every shape; other keys are passed over."""

    model_config = ConfigDict(extra="ignore")

    id: str | int | None = None
    category: str | None = None
    user: str | int | None = None
    rater: str | int | None = None
    source: str | None = None
    consent: bool = False


Side = Annotated[Annotated[str, Tag("text")] | Conversation, Discriminator(lambda value: "text" if isinstance(value, str) else "messages")]
"""One answer: text, or a conversation that ends with it."""


class Messages(Row):
    """A demonstration: a conversation, or a prompt and its completion."""

    messages: Conversation | None = None
    prompt: Prompt | None = None
    completion: Side | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Messages:
        if (self.messages is None) == (self.prompt is None or self.completion is None):
            raise ValueError("messages: needed, or prompt and completion in its place")
        return self


class Instance(Config):
    """One input of an instruction and its output."""

    model_config = ConfigDict(extra="ignore")

    input: str = ""
    output: str


class Instructions(Row):
    """A demonstration: an instruction and what answers it."""

    instruction: str
    input: str = ""
    output: str | None = None
    instances: tuple[Instance, ...] = ()

    @model_validator(mode="after")
    def _answered(self) -> Instructions:
        if self.output is None and not self.instances:
            raise ValueError("output: needed, or instances in its place")
        return self


class Pair(Row):
    """A comparison of two answers; without a prompt, what the two conversations share is it."""

    prompt: Prompt | None = None
    chosen: Side
    rejected: Side


class Transcripts(Row):
    """A pair as text with ``Human:`` and ``Assistant:`` turns (Bai et al. 2022)."""

    chosen: str
    rejected: str


class Ranked(Row):
    """A comparison of 2 to 9 answers, 1 the best, ties equal."""

    prompt: Prompt
    completions: tuple[Side, ...] = Field(min_length=2, max_length=MOST_COMPLETIONS)
    ranks: tuple[int, ...]
    scores: tuple[float, ...] | None = None


class Prompts(Row):
    """A prompt to sample from."""

    source: PromptSource | None = None
    prompt: Prompt
    answer: str | None = None
    """What a completion that is verified must state."""


ROWS: dict[Shape, type[Row]] = {
    "messages": Messages,
    "instructions": Instructions,
    "pairs": Pair,
    "transcripts": Transcripts,
    "ranked": Ranked,
    "prompts": Prompts,
}
