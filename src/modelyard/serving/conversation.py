"""One request under way: checked, put in the queue, its pieces judged, delivered, counted and written down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from modelyard.config import shortened
from modelyard.serving.batcher import ClosedError, FullError, Piece
from modelyard.serving.beside import Beside
from modelyard.serving.book import Book, Entry
from modelyard.serving.content_filter import ContentFilter, Held
from modelyard.serving.current import Current
from modelyard.serving.metrics import Metrics, Watch
from modelyard.serving.protocol import CHAT, TEXT, ChatRequest, CompletionRequest, Kind, Replies, Said, problem, usage
from modelyard.serving.served_model import ServedModel, Submitted

HANG_UP_SECONDS = 0.2
"""How often a client that waits for a whole answer is looked for."""


class RefusedError(Exception):
    """An error that a client is told."""

    def __init__(self, status: int, message: str, kind: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code or kind
        self.response = JSONResponse(problem(message, kind, code), status, {"Retry-After": "1"} if status in (429, 503) else None)


class Serving(NamedTuple):
    """What a server answers with."""

    current: Current
    book: Book | None
    metrics: Metrics
    beside: Beside | None = None
    """A version on trial."""


class Conversation:
    """One request: its pieces as they come from the decoding thread."""

    @classmethod
    async def begin(cls, serving: Serving, request: ChatRequest | CompletionRequest) -> Conversation:
        """Put the request in the queue, once its prompt has passed the content filter of the version that serves; the same filter judges its
        answer, whoever gives it. Raises RefusedError."""
        current = serving.current
        if request.model not in (current.name, current.name.partition("@")[0]):
            said = f"model {shortened(request.model)!r} is not served here; {current.name!r} is"
            raise RefusedError(404, said, "invalid_request_error", "model_not_found")
        if (model := current.model) is None:
            raise RefusedError(503, f"nothing is released as {current.name}", "server_error", "nothing_released")
        if held := model.content_filter:
            if isinstance(request, CompletionRequest) and request.return_token_ids:
                raise RefusedError(400, "return_token_ids: not served where a content filter holds texts", "invalid_request_error")
            if category := await asyncio.to_thread(held_for, held, model.texts(request)):
                said = f"the prompt is held by the content filter: {category}"
                raise RefusedError(400, said, "invalid_request_error", "content_filter")
        return cls(serving, request, held)

    def __init__(self, serving: Serving, request: ChatRequest | CompletionRequest, content_filter: ContentFilter | None) -> None:
        """Raises RefusedError."""
        current = serving.current
        self.held, loop = Held(content_filter), asyncio.get_running_loop()
        self.pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self.request = request

        def tell(piece: Piece) -> None:
            loop.call_soon_threadsafe(self.pieces.put_nowait, piece)

        canary = serving.beside.model_for(request.user) if serving.beside else None
        self.model, self.submitted = self._tried(canary, tell) or self._submit(current, tell)
        self.kind: Kind = CHAT if isinstance(request, ChatRequest) else TEXT
        self.replies = Replies(self.kind, current.name, self.model.fingerprint)
        self.watch = Watch(serving.metrics, self.model.fingerprint)
        self._book, self._delivered, self._noted = serving.book, "", False
        self._shadow = serving.beside.shadow(request, self.replies.id, content_filter) if serving.beside else None

    def _tried(self, canary: ServedModel | None, tell: Callable[[Piece], None]) -> tuple[ServedModel, Submitted] | None:
        """The canary and the request on its way to it; None where it does not take it."""
        try:
            return (canary, canary.submit(self.request, tell)) if canary else None
        except (ValueError, FullError, ClosedError):
            return None

    def _submit(self, current: Current, tell: Callable[[Piece], None]) -> tuple[ServedModel, Submitted]:
        """Who answers, and the request on its way: to the model that answers now, even if it took over in this very moment."""
        while (model := current.model) is not None:
            try:
                return model, model.submit(self.request, tell)
            except ValueError as error:
                code = "context_length_exceeded" if "exceed the context" in str(error) else None
                raise RefusedError(400, shortened(str(error)), "invalid_request_error", code) from None
            except FullError as error:
                raise RefusedError(429, f"{error}; try again", "rate_limit_error", "queue_full") from None
            except ClosedError as error:
                if current.model is model:
                    raise RefusedError(503, str(error), "server_error") from None
        raise RefusedError(503, f"nothing is released as {current.name}", "server_error", "nothing_released")

    async def passed(self, client: Request) -> AsyncIterator[Piece]:
        """The pieces as they may leave, the last one with a reason; nothing more is decoded for a client that has gone, or after the
        content filter has spoken."""
        try:
            while True:
                try:
                    piece = await asyncio.wait_for(self.pieces.get(), HANG_UP_SECONDS)
                except TimeoutError:
                    if await client.is_disconnected():
                        self.submitted.answer.cancel()
                    continue
                last = piece.reason is not None
                judged = self.held.filter is not None  # by a model that takes its time: others are served meanwhile
                text, category = await asyncio.to_thread(self.held.take, piece.text, last) if judged else (piece.text, None)
                if category:
                    piece = Piece("", piece.tokens, "content_filter", category)
                self._delivered += text
                if text:
                    self.watch.text()
                if piece.reason:  # before the client hears of the end: then it may speak of the answer
                    await asyncio.to_thread(self._note, piece.reason)
                yield piece._replace(text=text)
                if piece.reason:
                    return
        finally:
            self.submitted.answer.cancel()  # of one that has ended already nothing is left to free
            self._note("cancelled")

    async def whole(self, client: Request) -> Response:
        """The answer at once, when it has ended."""
        texts: list[str] = []
        async for piece in self.passed(client):
            texts.append(piece.text)
        match piece.reason:
            case "error":
                raise RefusedError(503, piece.problem, "server_error")
            case "cancelled" | None:
                return Response(status_code=499)
            case finish:
                told = self._wants_logprobs() and finish != "content_filter"
                said = self.model.said(self.submitted.answer) if told else None
                return JSONResponse(self.replies.whole("".join(texts), finish, self._usage(piece), said))

    async def streamed(self, client: Request) -> AsyncIterator[str]:
        """Server-sent events, as they come."""
        if self.kind is CHAT:
            yield event(self.replies.piece("", first=True))
        sent, with_tokens = 0, isinstance(self.request, CompletionRequest) and self.request.return_token_ids
        async for piece in self.passed(client):
            if with_tokens and piece.tokens > sent:
                answer = self.submitted.answer
                said = self.model.said(answer, sent, piece.tokens) if self._wants_logprobs() else None
                yield event(self.replies.piece(piece.text, ids=answer.tokens[sent : piece.tokens], said=said))
                sent = piece.tokens
            elif piece.text:
                yield event(self.replies.piece(piece.text))
            match piece.reason:
                case "error":
                    yield event(problem(piece.problem, "server_error"))
                    return
                case "cancelled":
                    return
                case None:
                    continue
                case finish if with_tokens:
                    yield event(self.replies.piece(None, finish, ids=(), said=Said([], [])))
                case finish:
                    yield event(self.replies.piece(None, finish))
        if self.request.stream_options.include_usage:
            yield event(self.replies.usage(self._usage(piece)))
        yield "data: [DONE]\n\n"

    def _note(self, finish: str) -> None:
        """Count the answer and write what was delivered into the book, once."""
        if self._noted:
            return
        self._noted = True
        self.watch.ended(finish, len(self.submitted.answer.tokens))
        if self._book:
            request, served = self.request, self.model
            prompt = tuple(request.messages) if isinstance(request, ChatRequest) else served.texts(request)[0]
            said = (request.user or "", served.name, served.fingerprint, prompt, self._delivered, finish, request.store)
            self._book.note(Entry(self.replies.id, *said))
        if self._shadow:
            self._shadow.served(self.model.fingerprint, finish)

    def _wants_logprobs(self) -> bool:
        return self.request.logprobs if isinstance(self.request, ChatRequest) else self.request.logprobs is not None

    def _usage(self, piece: Piece) -> dict[str, int]:
        return usage(self.submitted.prompt_tokens, piece.tokens)


def held_for(content_filter: ContentFilter, texts: Sequence[str]) -> str | None:
    """The category for which the first text is held that is; None where all pass."""
    return next(filter(None, map(content_filter.category, texts)), None)


def event(body: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
