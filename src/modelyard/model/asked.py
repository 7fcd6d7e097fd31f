"""What any model can be asked, whatever answers: an engine of ours, a Hugging Face directory (``model.subject``), a server (``model.endpoint``).

Three questions are enough for everything that evaluates, judges or labels: complete these prompts, reply to these
messages, and how likely are these continuations. What is continued is a text or a conversation, never a rendered one: only the model's
own encoder knows a template's control tokens from text that spells them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import Field

from modelyard.config import Config, digest
from modelyard.formats.feedback import Message, Part, Prompt, TextPart, is_text
from modelyard.formats.token_rows import PackedRows


class Decoding(Config):
    """How outputs are drawn."""

    max_new_tokens: int = Field(ge=0)
    """Longest output; 0: nothing is generated, the target's log-likelihood is the score."""
    temperature: float = Field(ge=0, allow_inf_nan=False)
    """0: greedy."""
    samples: int = Field(ge=0)
    """Outputs an item."""
    seed: int = Field(ge=0)
    """Of the sampling."""
    stops: tuple[str, ...] = ()
    """The output ends before the first of these."""


ChooseBy = Literal["likelihood", "letter"]
"""How one of several lettered options is chosen: by the likeliest, or by the letter that a generated reply names."""


class Sampled(NamedTuple):
    """One completion."""

    prompt: list[int]
    """Token ids fed, cut where necessary; empty where a server keeps them to itself."""
    tokens: list[int]
    """New token ids, the closing one included where it was sampled."""
    logprobs: list[float]
    """Of each new token at temperature 1."""
    text: str
    """Decoded, without special tokens, ended before the first stop."""
    cut: bool
    """Whether the prompt lost its beginning."""
    ended: bool = True
    """Whether the model ended it, or a stop did; False where it was cut at ``max_new_tokens`` (of a server's completions only as far as it says)."""


class Likelihood(NamedTuple):
    """One continuation: log p of each of its tokens (nats), and by how much the least likely of them beats every other token there."""

    logprobs: list[float]
    margin: float
    """NaN where it is not known: of a model that is cut over several ranks."""

    @property
    def greedy(self) -> bool:
        """Whether greedy decoding would say it. Raises ValueError where that is not known."""
        if math.isnan(self.margin):
            raise ValueError("whether greedy decoding says a text is not known of a model that is cut over several ranks")
        return self.margin >= 0

    @property
    def total(self) -> float:
        """log p of all of it."""
        return math.fsum(self.logprobs)


class Model(Protocol):
    """What can be asked."""

    name: str
    weights: str
    """Identity of what answers."""

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """A completion of each prompt; of a conversation that ends with the assistant, the rest of that turn."""
        ...

    def reply(self, said: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """A reply to each message of a user, or conversation that ends with one, as the model's chat template puts it."""
        ...

    def turn(self, said: Prompt) -> str:
        """The text that :meth:`reply` continues, to be looked at; of a server that keeps its template, the messages as they are sent."""
        ...

    def likelihoods(self, questions: Sequence[Sequence[tuple[Prompt, str]]]) -> list[list[Likelihood]]:
        """log p of each (context, continuation) of each question."""
        ...


class InChat:
    """A model to which every prompt is a user's message: a judge that is a chat model."""

    def __init__(self, model: Model) -> None:
        self.model, self.name = model, model.name
        self.weights = digest([model.weights, "chat"])[:16]

    def complete(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """A reply to each prompt."""
        return self.model.reply(prompts, decoding)

    def reply(self, said: Sequence[Prompt], decoding: Decoding) -> list[Sampled]:
        """A reply to each message or conversation."""
        return self.model.reply(said, decoding)

    def turn(self, said: Prompt) -> str:
        """The text that a reply continues."""
        return self.model.turn(said)

    def likelihoods(self, questions: Sequence[Sequence[tuple[Prompt, str]]]) -> list[list[Likelihood]]:
        """log p of each (context, continuation), as the model itself is asked."""
        return self.model.likelihoods(questions)


@runtime_checkable
class PackedModel(Protocol):
    """What reads rows of packed tokens: a model of the line's own tokenizer."""

    def row_logprobs(self, rows: PackedRows) -> list[float]:
        """Mean log p of the tokens of each row, nats."""
        ...

    def next_token(self, rows: PackedRows, position: int) -> tuple[list[float], list[bool]]:
        """Confidence in the likeliest token at a position of each row, and whether it stands there."""
        ...


def plain_turn(message: str) -> str:
    """A user's message to a model without a chat template."""
    return f"User: {message}\nAssistant:"


Written = str | tuple[Part, ...]
"""A text, images in it or not."""


def together(*pieces: Written) -> Written:
    """Texts one behind the other, as a text where no image is in them."""
    found: list[Part] = []
    for part in (one for piece in pieces for one in ((TextPart(text=piece),) if isinstance(piece, str) else piece)):
        if isinstance(part, TextPart) and found and isinstance(found[-1], TextPart):
            part = TextPart(text=found.pop().text + part.text)  # type: ignore[union-attr]
        found.append(part)
    if all(isinstance(part, TextPart) for part in found):
        return "".join(part.text for part in found if isinstance(part, TextPart))
    return tuple(found)


def _plain_turn(content: Written) -> Written:
    """:func:`plain_turn` of a message that may hold images."""
    before, after = plain_turn("\0").split("\0")
    return together(before, content, after)


def plain(prompt: Prompt) -> Written:
    """What a model without a chat template continues: a text as it is, a user's message by :func:`plain_turn`, and behind that as much
    of the answer as there is.
    """
    if is_text(prompt):
        return prompt
    return together(*(message.content if message.role == "assistant" else _plain_turn(message.content) for message in prompt))


def conversation(said: Prompt) -> tuple[Message, ...]:
    """Messages; a text is a user's."""
    return (Message(role="user", content=said),) if is_text(said) else said


def plain_turns(said: Prompt) -> Written:
    """A conversation of several turns put to a model without a chat template: each user's message by :func:`plain_turn`, on a line of its own."""
    turns: list[Written] = []
    for message in conversation(said):
        if message.role == "assistant" and turns:
            turns[-1] = together(turns[-1], " ", message.content)
        else:
            turns.append(_plain_turn(message.content))
    return together(*(piece for number, turn in enumerate(turns) for piece in (("\n", turn) if number else (turn,))))


def boundary(context: Written, continuation: str) -> tuple[Written, str]:
    """Space at the end of the context moves to the continuation, where tokenizers want it."""
    if isinstance(context, str):
        bare = context.rstrip()
        return bare, context[len(bare) :] + continuation
    last = context[-1]
    if not isinstance(last, TextPart):
        return context, continuation
    text, continuation = boundary(last.text, continuation)
    return together(context[:-1], text), continuation


def ended(text: str, stops: Sequence[str]) -> str:
    """Text up to the first stop."""
    ends = [end for stop in stops if (end := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def softmax(totals: Sequence[float]) -> list[float]:
    """Shares of probability among alternatives of the given log-probabilities."""
    return [math.exp(value) for value in log_softmax(totals)]


def log_softmax(totals: Sequence[float]) -> list[float]:
    """log of :func:`softmax`."""
    most = max(totals)
    whole = most + math.log(math.fsum(math.exp(total - most) for total in totals))
    return [total - whole for total in totals]
