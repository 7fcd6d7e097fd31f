"""The web application: its pages, and what guards them all.

Nothing is fetched from elsewhere and no script runs that is not a file of the desk's (Content-Security-Policy); other sites can
neither frame a page nor send a form (``frame-ancestors``, SameSite cookies, a token in every form); a request must name the desk's
own host, so that no name elsewhere can be pointed at it. Left out: TLS, which is a proxy's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.staticfiles import StaticFiles

from modelyard.desk.database import Database
from modelyard.desk.releases import Releases
from modelyard.desk.settings import DeskConfig
from modelyard.desk.web import admin, home, labeling, quality, red_team, releasing, sign_in
from modelyard.desk.web.desk import LOOPBACK, Desk, RefusedError, SignInError, see

STATIC = Path(__file__).parent / "static"
NO_PAGE = "There is no such page."
MOST_BYTES = 4 << 20
"""Largest form."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


def application(database: Database, config: DeskConfig, releases: Releases | None = None) -> FastAPI:
    """The desk over one database; ``releases``: what releasers look at and sign."""
    app = FastAPI(title="Modelyard desk", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = desk = Desk(database, config, releases)
    app.mount("/static", StaticFiles(directory=STATIC))
    for module in (home, sign_in, labeling, quality, admin, red_team, releasing):
        app.include_router(module.router)

    @app.middleware("http")
    async def guard(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
        response = refusal(request, config) or await following(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def refused(request: Request, error: Exception) -> Response:
        status, said = 400, "That cannot be read."
        if isinstance(error, RefusedError):
            status, said = error.status, error.said
        elif isinstance(error, RequestValidationError) and error.errors()[0]["loc"][0] == "path":
            status, said = 404, NO_PAGE
        return desk.show("refused.html", desk.actor(request), status, said=said)

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(RequestValidationError, refused)
    app.add_exception_handler(404, lambda request, _: refused(request, RefusedError(404, NO_PAGE)))
    app.add_exception_handler(SignInError, lambda *_: refused_by_proxy() if config.proxy_header else see("/sign-in"))
    return app


def refused_by_proxy() -> Response:
    """The proxy named nobody who has an account."""
    return PlainTextResponse("Your proxy names nobody who has an account at this desk.\n", 403)


def refusal(request: Request, config: DeskConfig) -> Response | None:
    """The answer to a request that no page may see."""
    host = request.headers.get("host", "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name.strip("[]") not in (*LOOPBACK, *config.hosts):
        return PlainTextResponse("This desk is not known by that name.\n", 421)
    if request.method in ("GET", "HEAD"):
        return None
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MOST_BYTES:
        return PlainTextResponse("Too large.\n", 413)
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return PlainTextResponse("A form of another site.\n", 403)
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        return PlainTextResponse("A form of another site.\n", 403)
    return None
