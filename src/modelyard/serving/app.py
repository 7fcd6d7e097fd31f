"""The HTTP side: OpenAI's ``/v1/chat/completions``, ``/v1/completions`` and ``/v1/models``, whole or streamed.

``/`` is a page to chat at. Errors are OpenAI's: 400 what cannot be asked, 404 another model, 429 too many wait, 503 going down. A client that
hangs up frees its row. Left out: keys and TLS (a proxy's).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from modelyard.config import shortened
from modelyard.serving.batcher import ClosedError, FullError, Piece
from modelyard.serving.book import Book, Entry, Opinion, UnknownAnswerError
from modelyard.serving.content_filter import ContentFilter, Held
from modelyard.serving.current import Current
from modelyard.serving.protocol import (
    CHAT,
    TEXT,
    ChatRequest,
    CompletionRequest,
    FeedbackRequest,
    Kind,
    ModerationRequest,
    Replies,
    problem,
    usage,
)
from modelyard.serving.served_model import ServedModel, Submitted

PAGE = Path(__file__).parent / "chat.html"
HANG_UP_SECONDS = 0.2
"""How often a client that waits for a whole answer is looked for."""


class RefusedError(Exception):
    """An error that a client is told."""

    def __init__(self, status: int, message: str, kind: str, code: str | None = None) -> None:
        super().__init__(message)
        self.response = JSONResponse(problem(message, kind, code), status, {"Retry-After": "1"} if status in (429, 503) else None)


class Conversation:
    """One request: its pieces as they come from the decoding thread."""

    def __init__(
        self, current: Current, request: ChatRequest | CompletionRequest, content_filter: ContentFilter | None, book: Book | None
    ) -> None:
        """Raises RefusedError."""
        if request.model not in (current.name, current.name.partition("@")[0]):
            said = f"model {shortened(request.model)!r} is not served here; {current.name!r} is"
            raise RefusedError(404, said, "invalid_request_error", "model_not_found")
        if content_filter and (category := next(filter(None, map(content_filter.category, request.texts)), None)):
            raise RefusedError(400, f"the prompt is held by the content filter: {category}", "invalid_request_error", "content_filter")
        self.held, loop = Held(content_filter), asyncio.get_running_loop()
        self.pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self.request = request

        def tell(piece: Piece) -> None:
            loop.call_soon_threadsafe(self.pieces.put_nowait, piece)

        self.model, self.submitted = self._submit(current, tell)
        self.kind: Kind = CHAT if isinstance(request, ChatRequest) else TEXT
        self.replies = Replies(self.kind, current.name, self.model.fingerprint)
        self.book, self._delivered = book, ""

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
                text, category = self.held.take(piece.text, last=piece.reason is not None)
                if category:
                    piece = Piece("", piece.tokens, "content_filter", category)
                self._delivered += text
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
        async for piece in self.passed(client):
            if piece.text:
                yield event(self.replies.piece(piece.text))
            match piece.reason:
                case "error":
                    yield event(problem(piece.problem, "server_error"))
                    return
                case "cancelled":
                    return
                case None:
                    continue
                case finish:
                    yield event(self.replies.piece(None, finish))
        if self.request.stream_options.include_usage:
            yield event(self.replies.usage(self._usage(piece)))
        yield "data: [DONE]\n\n"

    def _note(self, finish: str) -> None:
        """Write what was delivered into the book, once."""
        book, self.book = self.book, None
        if book:
            request, served = self.request, self.model
            prompt = tuple(request.messages) if isinstance(request, ChatRequest) else request.prompt
            said = (request.user or "", served.name, served.fingerprint, prompt, self._delivered, finish, request.store)
            book.note(Entry(self.replies.id, *said))

    def _wants_logprobs(self) -> bool:
        return self.request.logprobs if isinstance(self.request, ChatRequest) else self.request.logprobs is not None

    def _usage(self, piece: Piece) -> dict[str, int]:
        return usage(self.submitted.prompt_tokens, piece.tokens)


def event(body: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def application(current: Current, content_filter: ContentFilter | None, book: Book | None) -> FastAPI:
    """The server of one model, whichever it is now."""
    app = FastAPI(title=f"Modelyard: {current.name}", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(RefusedError, lambda _, error: error.response)
    app.add_exception_handler(RequestValidationError, lambda _, error: invalid(error))

    async def answer(request: ChatRequest | CompletionRequest, client: Request) -> Response:
        conversation = Conversation(current, request, content_filter, book)
        if request.stream:
            return StreamingResponse(conversation.streamed(client), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        return await conversation.whole(client)

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest, client: Request) -> Response:
        return await answer(request, client)

    @app.post("/v1/completions")
    async def complete(request: CompletionRequest, client: Request) -> Response:
        return await answer(request, client)

    @app.post("/v1/moderations")
    async def moderate(request: ModerationRequest) -> dict[str, Any]:
        if content_filter is None:
            raise RefusedError(404, "no classifier is served here", "invalid_request_error")
        results = [content_filter.moderation(text) for text in request.texts]
        return {"id": f"modr-{secrets.token_hex(12)}", "model": content_filter.model.identity[:16], "results": results}

    @app.post("/v1/feedback")
    def feedback(request: FeedbackRequest) -> dict[str, Any]:
        if book is None:
            raise RefusedError(404, "this server keeps no answers", "invalid_request_error")
        said = Opinion(request.rating, request.not_factual, request.better, request.comment)
        try:
            book.hear(request.id, said, request.user, request.consent)
        except UnknownAnswerError as error:
            raise RefusedError(404, str(error), "invalid_request_error", "unknown_answer") from None
        return {"id": request.id, "object": "feedback", "kept": True}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        if (model := current.model) is None:
            return {"object": "list", "data": []}
        entry = {"id": current.name, "object": "model", "created": 0, "owned_by": "modelyard", "max_model_len": model.context}
        return {"object": "list", "data": [entry]}

    @app.get("/")
    async def page() -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'"
        return HTMLResponse(PAGE.read_text("utf-8"), headers={"Content-Security-Policy": policy})

    @app.get("/health")
    async def health() -> Response:
        if (model := current.model) is None:
            return JSONResponse({"model": current.name, "weights": None, "problem": "nothing is released"}, 503)
        (serving, waiting), ended = model.batcher.load, model.batcher.problem
        body = {"model": current.name, "weights": model.subject.weights, "serving": serving, "waiting": waiting, "problem": ended}
        return JSONResponse(body, 503 if ended else 200)

    return app


def invalid(error: RequestValidationError) -> Response:
    """What cannot be asked, by its field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "body")
    said = str(first["msg"]).removeprefix("Value error, ")
    return JSONResponse(problem(f"{field}: {said}" if field else said, "invalid_request_error"), 400)
