"""A request's body ends where it is longer than a server takes, before it is held in memory: by its stated length, else while it comes."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOO_LARGE = 413


class BodyLimit:
    """An application whose requests hold at most ``largest`` bytes; ``refusal`` answers one that says it has more.

    One that says nothing and sends more ends with a 413 in the application, whose handler words it.
    """

    def __init__(self, app: ASGIApp, largest: int, refusal: Response) -> None:
        self.app, self.largest, self.refusal = app, largest, refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.largest:
                raise HTTPException(TOO_LARGE)
            return message

        if scope["type"] == "http" and stated(Headers(scope=scope)) > self.largest:
            await self.refusal(scope, receive, send)
        else:
            await self.app(scope, limited, send)


def stated(headers: Headers) -> int:
    """The length that a request says it has; 0 where it says none."""
    said = headers.get("content-length", "")
    return int(said) if said.isdecimal() and len(said) < 20 else 0
