"""Human feedback as every stage meets it: demonstrations, comparisons, thumbs and prompts, typed and validated, one JSON object a line.

InstructGPT's three data sets (arXiv:2203.02155, sections 3.2 to 3.4) and KTO's single answers that somebody found good or bad
(arXiv:2402.01306). A prompt is either plain text to be continued or the messages of a
conversation whose next turn is the assistant's; which of the two it is decides how it is encoded, and nothing else does. Either may hold
images, by their ids in the ``images/`` folder beside the records (:mod:`modelyard.formats.stored_images`). Comparisons hold K = 2
to 9 completions of one prompt with their ranks, ties included, and who ranked them. The ``feedback`` artifact is these four files, and
flags where there are any (:mod:`modelyard.formats.flags`); what people bring is turned into them by :mod:`modelyard.data.feedback.files`.
Left out: tools, images in what the assistant says, and marks of single completions beyond good and bad (marks of several are a ranking).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator
from typing_extensions import TypeIs

from modelyard.complaint import first_error
from modelyard.config import Config
from modelyard.formats import json_objects
from modelyard.formats.json_file import Line

DEMONSTRATIONS, COMPARISONS, THUMBS, PROMPTS = "demonstrations.jsonl", "comparisons.jsonl", "thumbs.jsonl", "prompts.jsonl"
MOST_COMPLETIONS = 9
"""Largest K of InstructGPT."""

PromptSource = Literal["labeler_plain", "labeler_few_shot", "labeler_user_based", "user", "red_team", "synthetic", "corpus"]
"""Where a prompt comes from: InstructGPT's three kinds of labeler prompts, users' traffic, red teaming, machine-made, or a corpus text's start."""


class FeedbackError(ValueError):
    """A record that cannot be used; the message is one line: ``file:line: key: what is wrong``."""


class TextPart(Config):
    """Text of a turn that holds images too."""

    type: Literal["text"] = "text"
    text: str


class ImagePart(Config):
    """An image of a turn."""

    type: Literal["image"] = "image"
    image: str
    """Its id in the ``images/`` folder beside the records."""


Part = Annotated[TextPart | ImagePart, Discriminator("type")]


class Message(Config):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    """Who speaks."""
    content: str | tuple[Part, ...]
    """What is said."""


Text = Annotated[str, Tag("text")]
Conversation = Annotated[tuple[Message, ...], Field(min_length=1), Tag("messages")]
Interleaved = Annotated[tuple[Part, ...], Field(min_length=1), Tag("parts")]


def _form(value: object) -> str:
    if isinstance(value, str):
        return "text"
    first = value[0] if isinstance(value, list | tuple) and value else None
    return "parts" if isinstance(first, TextPart | ImagePart) or (isinstance(first, dict) and "type" in first) else "messages"


Prompt = Annotated[Text | Conversation | Interleaved, Discriminator(_form)]
"""Plain text to be continued, or the messages before the assistant's next turn. The tags only keep errors to the form that was meant."""


class Demonstration(Config):
    """A prompt and what the model should write after it; earlier assistant turns of the prompt are trained on as well."""

    id: str
    split: Literal["train", "validation"]
    source: str
    """File or corpus it comes from."""
    category: str = ""
    prompt: Prompt
    completion: str = Field(min_length=1)

    @model_validator(mode="after")
    def _assistant_next(self) -> Demonstration:
        check_prompt(self.prompt)
        return self


class Comparison(Config):
    """Completions of one prompt in the order somebody put them."""

    id: str
    split: Literal["reward", "gold", "test"]
    """What it is for: training the reward model, training the judge of policies, or measuring either."""
    source: str
    """File, corpus or method it comes from."""
    category: str = ""
    rater: str = ""
    """Who ranked it (a person, a group of raters, a judge); "" where that is not known."""
    ranked_by: Literal["people", "judge"] = "people"
    """Whether people put the completions in order or a model did."""
    prompt: Prompt
    completions: tuple[str, ...] = Field(min_length=2, max_length=MOST_COMPLETIONS)
    ranks: tuple[int, ...]
    """1 is best; equal ranks are ties and make no pair."""
    scores: tuple[float, ...] | None = None
    """Mean rating of each completion where there is one: what margins are measured by."""
    agreement: float | None = Field(default=None, ge=0, le=1)
    """How often another rater orders its pairs as this one does; None where nobody else rated it."""

    @model_validator(mode="after")
    def _fits(self) -> Comparison:
        check_prompt(self.prompt)
        check_ranks(self.completions, self.ranks)
        if self.scores is not None and len(self.scores) != len(self.completions):
            raise ValueError(f"{len(self.scores)} scores for {len(self.completions)} completions")
        return self

    def pairs(self) -> Iterator[tuple[int, int]]:
        """(better, worse) of every pair without a tie."""
        places = range(len(self.ranks))
        return ((i, j) for i in places for j in places if self.ranks[i] < self.ranks[j])


class Thumb(Config):
    """A completion that somebody found good or bad by itself."""

    id: str
    split: Literal["train", "test"]
    """What it is for: training a policy by KTO, or measuring one."""
    source: str
    """File it comes from."""
    category: str = ""
    rater: str = ""
    """Whose thumb it is; "" where that is not known."""
    prompt: Prompt
    completion: str = Field(min_length=1)
    label: bool
    """True: good (thumb up); false: bad."""

    @model_validator(mode="after")
    def _assistant_next(self) -> Thumb:
        check_prompt(self.prompt)
        return self


class PromptRecord(Config):
    """A prompt to sample from."""

    id: str
    split: Literal["train", "validation"]
    source: PromptSource
    category: str = ""
    prompt: Prompt
    answer: str | None = None
    """The right answer, where completions are verified."""

    @model_validator(mode="after")
    def _assistant_next(self) -> PromptRecord:
        check_prompt(self.prompt)
        return self


def check_prompt(prompt: Prompt) -> None:
    """Raise ValueError unless the assistant is next to speak."""
    if not is_text(prompt) and prompt[-1].role == "assistant":
        raise ValueError("prompt: ends with the assistant's turn, so there is nothing to answer")


def check_ranks(completions: tuple[str, ...], ranks: tuple[int, ...]) -> None:
    """Raise ValueError unless every completion has a rank from 1 on and not all tie."""
    if len(ranks) != len(completions):
        raise ValueError(f"ranks: {len(ranks)} for {len(completions)} completions")
    if min(ranks) < 1:
        raise ValueError(f"ranks: count from 1 (best), got {min(ranks)}")
    if len(set(ranks)) == 1:
        raise ValueError("ranks: all completions tie, so nothing is compared")


def is_text(prompt: Prompt) -> TypeIs[str | tuple[Part, ...]]:
    """Whether a prompt is a text to be continued, with images in it or not, and no conversation."""
    return isinstance(prompt, str) or isinstance(prompt[0], TextPart | ImagePart)


def images_of(prompt: Prompt | Sequence[Part]) -> tuple[str, ...]:
    """The ids of its images, in their order."""
    if isinstance(prompt, str):
        return ()
    content = [one.content if isinstance(one, Message) else (one,) for one in prompt]
    parts = [part for one in content if not isinstance(one, str) for part in one]
    return tuple(part.image for part in parts if isinstance(part, ImagePart))


def with_images(prompt: Prompt, ids: Mapping[str, str]) -> Prompt:
    """The prompt with every image by what ``ids`` calls it."""
    if isinstance(prompt, str):
        return prompt
    if is_text(prompt):
        return _renamed(prompt, ids)
    return tuple(one if isinstance(one.content, str) else one.model_copy(update={"content": _renamed(one.content, ids)}) for one in prompt)


def _renamed(parts: tuple[Part, ...], ids: Mapping[str, str]) -> tuple[Part, ...]:
    return tuple(ImagePart(image=ids[part.image]) if isinstance(part, ImagePart) else part for part in parts)


def prompt_text(prompt: Prompt) -> str:
    """All that a prompt says, roles left out: what duplicates and contamination are looked for in."""
    if isinstance(prompt, str):
        return prompt
    return content_text(prompt) if is_text(prompt) else "\n".join(content_text(message.content) for message in prompt)


def content_text(content: str | tuple[Part, ...]) -> str:
    """What a turn or a text says, images left out."""
    return content if isinstance(content, str) else "".join(part.text for part in content if isinstance(part, TextPart)).strip()


R = TypeVar("R", bound=Config)


def json_lines(path: Path) -> Iterator[Line]:
    """The JSON objects of a file, one a line or all in one array, plain or ``.gz``. Raises FeedbackError for anything else."""
    if not path.is_file():
        raise FeedbackError(f"{path}: no such file")
    try:
        yield from json_objects.objects(path)
    except ValueError as error:
        raise FeedbackError(str(error)) from None


def record(shape: type[R], line: Line) -> R:
    """The line as a record; FeedbackError naming file, line and key where it is none."""
    try:
        return shape.model_validate(line.fields)
    except ValidationError as error:
        what = first_error(error, line.fields).removeprefix("config: ")  # of the line as a whole
        raise FeedbackError(f"{line.where}: {what}") from None


def records(path: Path, shape: type[R]) -> Iterator[R]:
    """The records of a file, which may hold none. Raises FeedbackError."""
    return (record(shape, line) for line in json_lines(path))


def read(path: Path, shape: type[R], split: str) -> list[R]:
    """The records of one split. Raises FeedbackError, also where there is none."""
    found = [one for one in records(path, shape) if getattr(one, "split", None) == split]
    if not found:
        raise FeedbackError(f"{path.name}: no {path.stem} of split {split!r}")
    return found


def write(path: Path, records: Iterable[Config]) -> None:
    """One JSON object a line, UTF-8, absent fields left out."""
    path.write_text(
        "".join(json.dumps(one.model_dump(mode="json", exclude_none=True), ensure_ascii=False) + "\n" for one in records), "utf-8"
    )
