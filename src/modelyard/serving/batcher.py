"""Requests that share decoding steps: each enters when a row is free and leaves when it has ended or its client has gone.

One thread owns the model. It reads waiting prompts into free rows, one between two steps so that those who already hear an
answer do not wait for many, feeds every row a token, and tells each request what is new. Each request draws from a generator of its own,
so its seed gives it the same text whoever else is served. Left out: priorities, prompts that share their beginning.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from modelyard.log import logger
from modelyard.model.inference.gallery import Gallery
from modelyard.model.inference.generate import sample
from modelyard.model.inference.slots import Slots
from modelyard.model.network import devices
from modelyard.serving.streamed_text import StreamedText

_log = logger(__name__)

Reason = Literal["stop", "length", "content_filter", "cancelled", "error"]
"""Why an answer ended; ``content_filter`` is said behind the batcher, of what it decoded."""


NO_ROOM = "there is no memory for a longer conversation"
"""What an answer hears whose keys and values have grown beyond memory."""


class FullError(RuntimeError):
    """As many requests are answered and wait as may."""


class ClosedError(RuntimeError):
    """The server is going down."""


class Piece(NamedTuple):
    """What one step added to an answer."""

    text: str
    """May be empty: half a character, or what may become a stop text."""
    tokens: int
    """New tokens so far."""
    reason: Reason | None = None
    """Why the answer ended; None while it goes on."""
    problem: str = ""
    """What went wrong, where ``reason`` is ``error``; the category, where it is ``content_filter``."""


class Asked(NamedTuple):
    """One answer that is wanted."""

    prompt: Sequence[int]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    stops: tuple[str, ...]
    stop_ids: frozenset[int]
    gallery: Gallery | None = None
    """The images that stand in the prompt, by whose numbers they do."""


@dataclass
class UnderWay:
    """An answer that is being made, here or by another server. ``tell`` is called from a thread that makes it."""

    asked: Asked
    tell: Callable[[Piece], None]
    text: StreamedText
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """Of each new token at temperature 1."""
    cancelled: bool = False
    entered: float | None = None
    """When its prompt began to be read (at another server: when that took it in), by ``time.monotonic``; None while it waits."""
    ended: float | None = None
    """When nothing more was made for it; None until then."""

    def cancel(self) -> None:
        """Nobody listens any more; nothing is made after the step under way. May be called from any thread."""
        self.cancelled = True


@dataclass
class Answer(UnderWay):
    """An answer that is decoded in a row here."""

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.asked.seed)
        self._uniforms = torch.rand(1, self.asked.max_new_tokens, generator=self._generator)[0]

    def drawn(self, logits: Tensor) -> Piece:
        """The next token of logits [1, V], and what it adds."""
        uniform = self._uniforms[len(self.tokens)][None].to(logits.device)
        token, logprob = sample(logits, self.asked.temperature, self.asked.top_p, uniform)
        self.tokens.append(int(token))
        self.logprobs.append(float(logprob))
        ended = self.tokens[-1] in self.asked.stop_ids
        full = len(self.tokens) == self.asked.max_new_tokens
        piece, stopped = self.text.grown(self.tokens, last=ended or full)
        reason: Reason | None = "stop" if ended or stopped else "length" if full else None
        return Piece(piece, len(self.tokens), reason)


class Batcher:
    """The queue, the rows and the thread between them."""

    def __init__(self, slots: Slots, decode: Callable[[Sequence[int]], str], waiting: int) -> None:
        """``waiting``: how many requests may wait for a row; one more is refused."""
        self.slots, self.decode, self.most_waiting = slots, decode, waiting
        self._waiting: deque[Answer] = deque()
        self._entering: Answer | None = None
        """Whose prompt is read: it waits no more and has no row yet."""
        self._serving: list[Answer] = []
        self._changed = threading.Condition()
        self._closing = False
        self.problem = ""
        """What ended the thread, other than :meth:`close`."""
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)
        self._thread.start()

    def submit(self, asked: Asked, tell: Callable[[Piece], None]) -> Answer:
        """Put a request in the queue; ``tell`` hears every :class:`Piece`, the last one with a reason.

        Raises:
            FullError: as many wait as may wait.
            ClosedError: the server is going down.
        """
        answer = Answer(asked, tell, StreamedText(self.decode, asked.stops))
        with self._changed:
            if self._closing:
                raise ClosedError(self.problem or "the server is going down")
            if len(self._waiting) + len(self._serving) >= self.most_waiting + self.slots.rows:
                raise FullError(f"{self.slots.rows} requests are answered and {self.most_waiting} wait")
            self._waiting.append(answer)
            self._changed.notify()
        return answer

    @property
    def load(self) -> tuple[int, int]:
        """Requests that are answered, and that wait."""
        return len(self._serving), len(self._waiting)

    def close(self) -> None:
        """Answer what was taken in, take in nothing more, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._decode_until_closed()
        except Exception as error:  # of the machine: memory, a device; who waits must hear of it
            with self._changed:
                self._closing, self.problem = True, f"decoding ended: {type(error).__name__}: {error}"
                left = [*self._serving, *([self._entering] if self._entering else []), *self._waiting]
                self._serving, self._entering, self._waiting = [], None, deque()
            for answer in left:
                answer.tell(Piece("", len(answer.tokens), "error", self.problem))
            _log.exception("decoding ended")

    def _decode_until_closed(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._serving or self._closing):
                    self._changed.wait()
                if self._closing and not (self._waiting or self._serving):
                    return
                self._entering = self._waiting.popleft() if self._waiting and self.slots.used < self.slots.rows else None
            self._drop_cancelled()
            if self._entering:
                self._enter(self._entering)
            if self._serving:
                self._step()

    def _enter(self, answer: Answer) -> None:
        if answer.cancelled:
            self._entering = None
            answer.tell(Piece("", 0, "cancelled"))
            return
        answer.entered = time.monotonic()
        try:
            logits = self.slots.enter(answer.asked.prompt, answer.asked.gallery)
        except ValueError as error:
            self._entering = None
            answer.tell(Piece("", 0, "error", str(error)))
            return
        self._entering = None
        self._serving.append(answer)
        self._tell(len(self._serving) - 1, logits[None])

    def _step(self) -> None:
        """One token for everybody. The last rows first: a row that ends is filled by the last, which has had its token by then."""
        logits = None
        while self._serving and logits is None:
            with contextlib.suppress(MemoryError):
                logits = self.slots.step([answer.tokens[-1] for answer in self._serving])
            if logits is None:
                self._end_without_memory(self.slots.longest)
        if logits is None:
            return
        for row in reversed(range(len(self._serving))):
            self._tell(row, logits[row : row + 1])

    def _tell(self, row: int, logits: Tensor) -> None:
        answer = self._serving[row]
        piece = None
        with contextlib.suppress(MemoryError), devices.shortage_as_memory_error():
            piece = answer.drawn(logits)
        if piece is None:
            self._end_without_memory(row)
            return
        if piece.reason:
            self._leave(row)
        answer.tell(piece)

    def _end_without_memory(self, row: int) -> None:
        answer = self._serving[row]
        self._leave(row)
        answer.tell(Piece("", len(answer.tokens), "error", NO_ROOM))

    def _leave(self, row: int) -> None:
        moved = self.slots.leave(row)
        self._serving[row].ended = time.monotonic()
        last = self._serving.pop()
        if moved is not None:
            self._serving[row] = last

    def _drop_cancelled(self) -> None:
        for row in reversed(range(len(self._serving))):
            if self._serving[row].cancelled:
                answer = self._serving[row]
                self._leave(row)
                answer.tell(Piece("", len(answer.tokens), "cancelled"))
