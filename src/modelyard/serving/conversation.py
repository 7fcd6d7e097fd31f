"""One request under way: checked, put in the queue, its pieces judged, delivered, counted and written down."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from modelyard.complaint import shortened
from modelyard.formats.feedback import Prompt, images_of
from modelyard.formats.images import ImageError
from modelyard.serving.batcher import ClosedError, FullError, Piece
from modelyard.serving.beside import Beside
from modelyard.serving.book import Book, Entry, clean, plain
from modelyard.serving.content_filter import ContentFilter, Held
from modelyard.serving.current import Current
from modelyard.serving.metrics import Metrics, Watch
from modelyard.serving.protocol import CHAT, TEXT, ChatRequest, CompletionRequest, Kind, Replies, Said, problem, usage
from modelyard.serving.served_model import TEXT_ONLY, ServedModel, Submitted
from modelyard.serving.traces import AnswerTrace, Texts, Timeline, Tracer

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
    tracer: Tracer | None = None
    """Who keeps traces of answers."""
    load: Callable[[Path], ServedModel] | None = None
    """How the weights of another directory are loaded, where a client may ask for that (:mod:`modelyard.serving.reloading`)."""


class Conversation:
    """One request: its pieces as they come from the decoding thread."""

    @classmethod
    async def begin(cls, serving: Serving, request: ChatRequest | CompletionRequest) -> Conversation:
        """Put the request in the queue, once its prompt has passed the content filter of the version that serves; the same filter judges its
        answer, whoever gives it. Raises RefusedError."""
        current, timeline = serving.current, Timeline()
        if request.model not in (current.name, current.name.partition("@")[0]):
            said = f"model {shortened(request.model)!r} is not served here; {current.name!r} is"
            raise RefusedError(404, said, "invalid_request_error", "model_not_found")
        if (model := current.model) is None:
            raise RefusedError(503, f"nothing is released as {current.name}", "server_error", "nothing_released")
        if isinstance(request, ChatRequest) and images_of(tuple(request.messages)):
            if not model.sees:  # before anything is decoded
                raise RefusedError(400, TEXT_ONLY, "invalid_request_error")
            await read_images(request)
        if (held := model.content_filter) and isinstance(request, CompletionRequest) and request.return_token_ids:
            raise RefusedError(400, "return_token_ids: not served where a content filter holds texts", "invalid_request_error")
        if held and request.stream and wants_logprobs(request):  # a token's text may leave in two windows, or wait for its other half
            raise RefusedError(400, "logprobs: not streamed where a content filter holds texts", "invalid_request_error")
        try:
            model.check_tokens(request)  # before they are judged as the text that they are
        except ValueError as error:
            raise RefusedError(400, shortened(str(error)), "invalid_request_error") from None
        judging = time.monotonic()
        category = await asyncio.to_thread(held_for, held, model.texts(request)) if held else None
        if held:
            timeline.prompt_judged(judging)
        if category:
            said = f"the prompt is held by the content filter: {category}"
            raise RefusedError(400, said, "invalid_request_error", "content_filter")
        return cls(serving, request, held, timeline)

    def __init__(
        self, serving: Serving, request: ChatRequest | CompletionRequest, content_filter: ContentFilter | None, timeline: Timeline
    ) -> None:
        """Raises RefusedError."""
        current = serving.current
        self.held, loop = Held(content_filter), asyncio.get_running_loop()
        self.pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self.request = request

        def tell(piece: Piece) -> None:
            loop.call_soon_threadsafe(self.pieces.put_nowait, piece)

        submitted_at = time.monotonic()
        canary = serving.beside.model_for(request.user) if serving.beside else None
        self.model, self.submitted = self._tried(canary, tell) or self._submit(current, tell)
        self.kind: Kind = CHAT if isinstance(request, ChatRequest) else TEXT
        self.replies = Replies(self.kind, current.name, self.model.fingerprint)
        self.watch = Watch(serving.metrics, self.model.fingerprint, timeline)
        self._book, self._delivered, self._noted, self._category = serving.book, "", False, ""
        self._tracer, self._timeline, self._submitted_at = serving.tracer, timeline, submitted_at
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
                text, category = await self._judged(piece.text, last)
                if category:
                    piece, self._category = Piece("", piece.tokens, "content_filter", category), category
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

    async def _judged(self, text: str, last: bool) -> tuple[str, str | None]:
        """What may leave now, and the category for which nothing more may."""
        if self.held.filter is None:
            return text, None
        begun = time.monotonic()
        passed, category = await asyncio.to_thread(
            self.held.take, text, last
        )  # by a model that takes its time: others are served meanwhile
        if passed or category:
            self._timeline.window_judged(begun)
        return passed, category

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
                told = wants_logprobs(self.request) and finish != "content_filter"
                answer = self.submitted.answer
                said = self.model.said(answer) if told else None
                ids = answer.tokens if self._wants_ids() else None
                return JSONResponse(self.replies.whole("".join(texts), finish, self._usage(piece), said, ids))

    async def streamed(self, client: Request) -> AsyncIterator[str]:
        """Server-sent events, as they come."""
        if self.kind is CHAT:
            yield event(self.replies.piece("", first=True))
        sent, with_tokens, with_logprobs = 0, self._wants_ids(), wants_logprobs(self.request)
        async for piece in self.passed(client):
            if (with_tokens or with_logprobs) and piece.tokens > sent:
                answer = self.submitted.answer
                said = self.model.said(answer, sent, piece.tokens) if with_logprobs else None
                ids = answer.tokens[sent : piece.tokens] if with_tokens else None
                yield event(self.replies.piece(piece.text, ids=ids, said=said))
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
            said = (request.user or "", served.name, served.fingerprint, self._said(), self._delivered, finish, request.store)
            self._book.note(Entry(self.replies.id, *said))
        if self._shadow:
            self._shadow.served(self.model.fingerprint, finish)
        if self._tracer:
            self._tracer.send(self._trace(finish))

    def _trace(self, finish: str) -> AnswerTrace:
        """Where the time of the answer went; its texts only where a book keeps them for a user who agreed, since withdrawal goes by the book."""
        answer, served, timeline, request = self.submitted.answer, self.model, self._timeline, self.request
        ended, texts = time.monotonic(), None
        if request.store and self._book:
            texts = Texts(plain(self._said()), clean(self._delivered))
        known: dict[str, str | int | float] = {
            "receipt": self.replies.id, "model": served.name, "version": served.version, "weights": served.fingerprint, "finish": finish,
            "category": self._category, "prompt_tokens": self.submitted.prompt_tokens, "new_tokens": len(answer.tokens),
        }  # fmt: skip
        if timeline.first_text is not None:
            known["first_text_seconds"] = round(timeline.first_text, 6)
        return AnswerTrace(
            receipt=self.replies.id,
            begun=timeline.at(timeline.begun),
            ended=timeline.at(ended),
            phases=timeline.phases(self._submitted_at, answer.entered, answer.ended, ended),
            prompt_tokens=self.submitted.prompt_tokens,
            new_tokens=len(answer.tokens),
            failed=finish == "error",
            attributes={key: value for key, value in known.items() if value != ""},
            texts=texts,
        )

    def _said(self) -> Prompt:
        """What was asked, tokens as the text that they are."""
        return tuple(self.request.messages) if isinstance(self.request, ChatRequest) else self.model.texts(self.request)[0]

    def _wants_ids(self) -> bool:
        return isinstance(self.request, CompletionRequest) and self.request.return_token_ids

    def _usage(self, piece: Piece) -> dict[str, int]:
        return usage(self.submitted.prompt_tokens, piece.tokens)


def wants_logprobs(request: ChatRequest | CompletionRequest) -> bool:
    """Whether the log-probability of each token was asked for."""
    return request.logprobs if isinstance(request, ChatRequest) else request.logprobs is not None


async def read_images(request: ChatRequest) -> None:
    """Decode the images of a request beside the others' answers. Raises RefusedError."""
    try:
        await asyncio.to_thread(request.read_images)
    except ImageError as error:
        raise RefusedError(400, f"messages: image_url: {error}", "invalid_request_error", "invalid_image") from None


def held_for(content_filter: ContentFilter, texts: Sequence[str]) -> str | None:
    """The category for which the first text is held that is; None where all pass."""
    return next(filter(None, map(content_filter.category, texts)), None)


def event(body: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
