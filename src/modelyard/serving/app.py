"""The HTTP side: OpenAI's ``/v1/chat/completions``, ``/v1/completions``, ``/v1/moderations`` and ``/v1/models``, whole or streamed.

``/`` is a page to chat at, ``/v1/feedback`` hears its users, ``/metrics`` is for Prometheus. Errors are OpenAI's: 400 what cannot be
asked, 404 another model, 413 too long to be read, 429 too many wait, 503 going down. A client that hangs up frees its row. Left out: keys and
TLS (a proxy's).
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST

from modelyard.serving import reloading
from modelyard.serving.body_limit import TOO_LARGE, BodyLimit
from modelyard.serving.book import Opinion, UnknownAnswerError
from modelyard.serving.conversation import Conversation, RefusedError, Serving
from modelyard.serving.protocol import ChatRequest, CompletionRequest, FeedbackRequest, ModerationRequest

PAGE = Path(__file__).parent / "chat.html"
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'"
)

LARGEST_BODY = 64 << 20
"""Bytes of a request: a long conversation with images in it."""


def application(serving: Serving) -> FastAPI:
    """The server of one model, whichever it is now."""
    app = FastAPI(title=f"Modelyard: {serving.current.name}", docs_url=None, redoc_url=None, openapi_url=None)
    current, book, metrics, beside, tracer, load = serving

    def refused(error: RefusedError) -> Response:
        metrics.refused(error.status, error.code)
        return error.response

    app.add_exception_handler(RefusedError, lambda _, error: refused(error))
    app.add_exception_handler(RequestValidationError, lambda _, error: refused(invalid(error)))
    app.add_exception_handler(TOO_LARGE, lambda *_: refused(too_large()))
    app.add_middleware(BodyLimit, largest=LARGEST_BODY, refusal=too_large().response)

    if load:
        reloading.attach(app, current, load)

    async def answer(request: ChatRequest | CompletionRequest, client: Request) -> Response:
        conversation = await Conversation.begin(serving, request)
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
        if current.model is None or (content_filter := current.model.content_filter) is None:
            raise RefusedError(404, "no classifier is served here", "invalid_request_error")
        results = await asyncio.to_thread(lambda: [content_filter.moderation(text) for text in request.texts])
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
        metrics.opinion(request.rating, request.not_factual)
        if tracer and request.consent is False:
            tracer.forget([request.id])
        return {"id": request.id, "object": "feedback", "kept": True}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        if (model := current.model) is None:
            return {"object": "list", "data": []}
        entry = {"id": current.name, "object": "model", "created": 0, "owned_by": "modelyard", "max_model_len": model.context}
        return {"object": "list", "data": [entry]}

    @app.get("/")
    async def page() -> Response:
        return HTMLResponse(PAGE.read_text("utf-8"), headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/metrics")
    async def counted() -> Response:
        load = current.model.batcher.load if current.model else (0, 0)
        if beside:
            metrics.tried(beside.kind, beside.state()["share"])
        return Response(metrics.page(*load), media_type=CONTENT_TYPE_LATEST)

    @app.get("/health")
    async def health() -> Response:
        if (model := current.model) is None:
            return JSONResponse({"model": current.name, "weights": None, "problem": "nothing is released"}, 503)
        (serving, waiting), ended = model.batcher.load, model.batcher.problem
        body = {"model": current.name, "weights": model.weights, "images": model.sees}
        body |= {"serving": serving, "waiting": waiting, "problem": ended}
        body |= {"beside": beside.state()} if beside else {}
        return JSONResponse(body, 503 if ended else 200)

    return app


def too_large() -> RefusedError:
    """A request with more than the server reads."""
    return RefusedError(TOO_LARGE, f"the request is larger than {LARGEST_BODY >> 20} MiB", "invalid_request_error", "request_too_large")


def invalid(error: RequestValidationError) -> RefusedError:
    """What cannot be asked, by its field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "body")
    said = str(first["msg"]).removeprefix("Value error, ")
    return RefusedError(400, f"{field}: {said}" if field else said, "invalid_request_error")
