"""The model that a server answers with: its name, its weights, its tokenizer, the rows it decodes in and what holds its texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from modelyard.formats.feedback import Prompt
from modelyard.model.asked import plain_turns
from modelyard.model.inference.slots import Slots
from modelyard.model.subject import Subject
from modelyard.serving.batcher import Answer, Asked, Batcher, Piece
from modelyard.serving.content_filter import ContentFilter
from modelyard.serving.protocol import ChatRequest, CompletionRequest, Said

SHORTEST = 16
"""New tokens that a request without ``max_tokens`` has at least room for, or its prompt is too long."""


class Submitted(NamedTuple):
    """A request on its way."""

    answer: Answer
    prompt_tokens: int


class ServedModel:
    """A subject and its batcher."""

    def __init__(
        self, name: str, subject: Subject, rows: int, waiting: int, content_filter: ContentFilter | None = None, version: str = ""
    ) -> None:
        """``rows``: requests answered at once; ``waiting``: requests that may wait; ``content_filter``: of this version, None: nothing is
        held; ``version``: its number in the registry, "" of a directory. Raises ValueError as :class:`Slots`."""
        self.name, self.subject, self.content_filter, self.version = name, subject, content_filter, version
        self.context = subject.engine.model.seq_len
        self.batcher = Batcher(Slots(subject.engine, rows), subject.encoder.decode, waiting)

    @property
    def fingerprint(self) -> str:
        """Of the weights; every answer carries it."""
        return f"fp_{self.subject.weights[:16]}"

    def submit(self, request: ChatRequest | CompletionRequest, tell: Callable[[Piece], None]) -> Submitted:
        """Put a request in the queue.

        Raises:
            ValueError: prompt and new tokens do not fit the context, or the chat template refuses the conversation.
            FullError, ClosedError: as :meth:`Batcher.submit`.
        """
        prompt, stops, ends = self._prompt(request)
        room = self.context - len(prompt)
        wanted = request.longest or max(room, SHORTEST)
        if wanted > room:
            raise ValueError(f"{len(prompt)} prompt tokens and {wanted} new ones exceed the context of {self.context}")
        stops = (*(request.stop or ()), *stops)
        asked = Asked(prompt, wanted, request.temperature, request.top_p, request.drawn_by, stops, frozenset(ends))
        return Submitted(self.batcher.submit(asked, tell), len(prompt))

    def said(self, answer: Answer) -> Said:
        """The answer's tokens, each as it reads alone, with their log-probabilities."""
        return Said([self.subject.encoder.decode([token]) for token in answer.tokens], list(answer.logprobs))

    def _prompt(self, request: ChatRequest | CompletionRequest) -> tuple[list[int], tuple[str, ...], list[int]]:
        """Token ids, stop texts of a model without a chat template, and the tokens that end an answer."""
        encoder = self.subject.encoder
        if isinstance(request, CompletionRequest):
            return encoder.opening(request.prompt), (), encoder.text_ends
        said: Prompt = tuple(request.messages)
        if encoder.template:
            return encoder.prompt(said), (), encoder.ends
        return encoder.opening(plain_turns(said)), ("\nUser:",), encoder.text_ends
