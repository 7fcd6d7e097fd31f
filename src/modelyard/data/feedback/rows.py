"""The shapes in which a line of a user's own feedback may come (:mod:`modelyard.data.feedback.content` says what they mean).

Keys and roles are those in use: OpenAI's messages with content parts, images among them, ShareGPT's ``conversations`` of ``from`` and ``value``,
LLaVA's ``image`` beside them, TRL's pairs and single answers with a label, UltraFeedback's scores. Keys that no record has are kept to be counted.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, ConfigDict, Discriminator, Field, StrictBool, Tag, field_validator, model_validator

from modelyard.config import Config
from modelyard.formats.feedback import MOST_COMPLETIONS, PromptSource

Shape = Literal["messages", "instructions", "pairs", "transcripts", "ranked", "scored", "thumbs", "flags", "prompts"]
TOOL = "tool"
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot"), "assistant"),
    **dict.fromkeys(("tool", "function", "function_call", "observation", "ipython"), TOOL),
}
"""What a role is called in use -> whose turn it is."""


def _kind(value: object) -> str:
    return "text" if isinstance(value, str) else "nothing" if value is None else "message" if isinstance(value, dict) else "several"


class ImageUrl(Config):
    """Where an image is, as OpenAI writes it."""

    model_config = ConfigDict(extra="ignore")

    url: str


class Part(Config):
    """A part of a message's content."""

    model_config = ConfigDict(extra="ignore")

    type: str = "text"
    text: str | None = None
    image_url: Annotated[ImageUrl | str | None, Field(union_mode="left_to_right")] = None
    """A data URL, or the path of a file beside this one."""

    @property
    def image(self) -> str | None:
        """Where its image is, if it is one."""
        return self.image_url.url if isinstance(self.image_url, ImageUrl) else self.image_url


Said = Annotated[
    Annotated[str, Tag("text")] | Annotated[tuple[Part, ...], Tag("several")] | Annotated[None, Tag("nothing")], Discriminator(_kind)
]


class Turn(Config):
    """One turn as it comes."""

    model_config = ConfigDict(extra="allow")

    role: str = Field(validation_alias=AliasChoices("role", "from"))
    content: Said = Field(default=None, validation_alias=AliasChoices("content", "value"))
    weight: float | None = None
    """OpenAI's: 0 for a turn that is not to be trained on."""
    tool_calls: Any = None
    function_call: Any = None

    @field_validator("role")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in ROLES:
            raise ValueError(f"expected one of {', '.join(ROLES)}, got {value!r}")
        return ROLES[value]


Turns = tuple[Turn, ...]
Prompt = Annotated[Annotated[str, Tag("text")] | Annotated[Turns, Tag("several")], Discriminator(_kind)]
"""Text, or the turns before the assistant's next one."""
Side = Annotated[Annotated[str, Tag("text")] | Annotated[Turns, Tag("several")] | Annotated[Turn, Tag("message")], Discriminator(_kind)]
"""One answer: text, the message that it is, or a conversation that ends with it."""


class ImageFile(Config):
    """An image as the Hub's viewers write it."""

    model_config = ConfigDict(extra="ignore")

    path: str


class Row(Config):
    """What may stand in a line of every shape; other keys are passed over and counted."""

    model_config = ConfigDict(extra="allow")

    id: str | int | None = None
    category: str | None = None
    user: str | int | None = None
    rater: str | int | None = None
    source: str | None = None
    consent: bool = False
    system: str | None = None
    """System message of the line's conversation."""
    image: str | None = None
    """Where the image is that stands as ``<image>`` in a user's turn, as LLaVA writes it."""
    images: tuple[str | ImageFile, ...] = ()
    """The same of several, in their order."""
    tools: Any = None
    functions: Any = None


class Messages(Row):
    """A demonstration: a conversation, or a prompt and its completion."""

    messages: Turns | None = Field(default=None, validation_alias=AliasChoices("messages", "conversations"))
    prompt: Prompt | None = None
    completion: Side | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Messages:
        given = [key for key in ("prompt", "completion") if getattr(self, key) is not None]
        if self.messages is not None and len(given) == 2:
            raise ValueError("messages: stands beside prompt and completion, and a line is read from one or the other")
        if self.messages is None and not given:
            raise ValueError("messages: needed, or prompt and completion in its place")
        if self.messages is None and len(given) == 1:
            raise ValueError(f"{'completion' if given == ['prompt'] else 'prompt'}: needed beside {given[0]}")
        return self


class Thumbs(Messages):
    """A demonstration that somebody found good or bad (KTO, Ethayarajh et al. 2024): TRL's ``label`` beside it."""

    label: StrictBool
    """True: good; false: bad."""


class Flags(Messages):
    """An answer that a user flagged as not factual, or that somebody found right."""

    factual: StrictBool
    """False: flagged; true: not flagged, or found right."""
    correction: str = ""
    """A corrected answer."""


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

    @property
    def shown(self) -> Instance:
        """The input and output that count: the line's own, else its first instance."""
        return self.instances[0] if self.output is None else Instance(input=self.input, output=self.output)


class Pair(Row):
    """A comparison of two answers; without a prompt, what the two conversations share is it."""

    prompt: Prompt | None = Field(default=None, validation_alias=AliasChoices("prompt", "conversations"))
    chosen: Side
    rejected: Side
    score_chosen: float | None = None
    score_rejected: float | None = None


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

    @model_validator(mode="after")
    def _one_each(self) -> Ranked:
        for name, values in (("ranks", self.ranks), ("scores", self.scores)):
            if values is not None and len(values) != len(self.completions):
                raise ValueError(f"{name}: {len(values)} for {len(self.completions)} completions")
        return self


class ScoredCompletion(Config):
    """An answer with the mark that it got."""

    model_config = ConfigDict(extra="allow")

    text: Side = Field(validation_alias=AliasChoices("text", "response", "content"))
    score: float | None = Field(validation_alias=AliasChoices("score", "overall_score"))


class Scored(Row):
    """A comparison of answers by their marks (UltraFeedback, Cui et al. 2023); the highest is the best, equal ones tie."""

    prompt: Prompt = Field(validation_alias=AliasChoices("prompt", "instruction"))
    completions: tuple[ScoredCompletion, ...] = Field(max_length=MOST_COMPLETIONS)


class Prompts(Row):
    """A prompt to sample from."""

    source: PromptSource | None = None
    prompt: Prompt = Field(validation_alias=AliasChoices("prompt", "messages", "conversations", "question"))
    answer: str | None = None
    """What a completion that is verified must state."""


COMPARED: tuple[Shape, ...] = ("pairs", "transcripts", "ranked", "scored")
"""Shapes of comparisons."""
ROWS: dict[Shape, type[Row]] = {
    "messages": Messages,
    "instructions": Instructions,
    "pairs": Pair,
    "transcripts": Transcripts,
    "ranked": Ranked,
    "scored": Scored,
    "thumbs": Thumbs,
    "flags": Flags,
    "prompts": Prompts,
}
