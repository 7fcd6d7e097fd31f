"""What every page of the desk has at hand: database, settings, templates, rate limits, and who asks.

A page is for roles (:func:`asking`); a form must carry its session's token (:func:`posted`), which a page of another site cannot know.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import FileSystemLoader, StrictUndefined, Template
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pydantic import Field
from starlette.datastructures import FormData

from modelyard.desk import accounts, sessions
from modelyard.desk.database import Database
from modelyard.desk.releases import Releases
from modelyard.desk.sessions import Actor
from modelyard.desk.settings import DeskConfig
from modelyard.desk.web.shown import FILTERS
from modelyard.printable import page

TEMPLATES = Path(__file__).parent / "templates"
COOKIE = "desk_session"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class RefusedError(Exception):
    """What a browser is told instead of a page."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said


class SignInError(Exception):
    """Nobody has signed in."""


class Asked(NamedTuple):
    """A form of somebody who may send it."""

    actor: Actor
    form: Mapping[str, str]
    several: FormData
    """The same with every value of a key."""


class Desk:
    """The application's parts."""

    def __init__(self, database: Database, config: DeskConfig, releases: Releases | None) -> None:
        self.database, self.config, self.releases = database, config, releases
        self.limiter = MovingWindowRateLimiter(MemoryStorage())
        self.pages = pages()
        self._tokens: dict[str, str] = {}

    def show(self, name: str, actor: Actor | None, status: int = 200, **values: Any) -> Response:
        """A page made of a template."""
        whole = {"actor": actor, "csrf": actor.csrf if actor else "", "proxied": bool(self.config.proxy_header), **values}
        return HTMLResponse(self.pages(name).render(whole), status)

    def limit(self, per_minute: int, *who: str) -> None:
        """Count one more of ``who``. Raises RefusedError (429) beyond ``per_minute``."""
        if not self.limiter.hit(RateLimitItemPerMinute(per_minute), *who):
            raise RefusedError(429, "Too many requests; wait a minute.")

    def actor(self, request: Request) -> Actor | None:
        """Who asks, by the proxy's header or the session's cookie."""
        if self.config.proxy_header:
            return self._proxied(request)
        token = request.cookies.get(COOKIE, "")
        if not token:
            return None
        with self.database.read() as session:
            return sessions.actor_of(session, token)

    def _proxied(self, request: Request) -> Actor | None:
        """Who the proxy says has signed in; only a proxy on this machine is believed."""
        name = request.headers.get(self.config.proxy_header, "")
        if not name or request.client is None or request.client.host not in LOOPBACK:
            return None
        with self.database.read() as session:
            try:
                account = accounts.find(session, name)
            except accounts.AccountError:
                return None
            return sessions.actor(account, self._csrf(account.pseudonym)) if account.active else None

    def _csrf(self, pseudonym: str) -> str:
        """A form's token where the proxy keeps the session: of this process."""
        return self._tokens.setdefault(pseudonym, secrets.token_urlsafe(24))


def pages() -> Callable[[str], Template]:
    """Template by name; text of others is escaped in them and shown as it was written."""
    found = page("").environment.overlay(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True)
    found.filters.update(FILTERS)
    return found.get_template


def desk_of(request: Request) -> Desk:
    """The application's parts."""
    desk: Desk = request.app.state.desk
    return desk


TheDesk = Annotated[Desk, Depends(desk_of)]
RowId = Annotated[int, Field(ge=0, lt=2**31)]
"""A number of a row in an address: a greater one is none that either database could even look for."""


def asking(*roles: str) -> Callable[[Request], Actor]:
    """A dependency: who asks, if they have one of the roles (any, without roles)."""

    def found(request: Request) -> Actor:
        actor = desk_of(request).actor(request)
        if actor is None:
            raise SignInError
        if roles and not actor.has(*roles):
            raise RefusedError(403, f"This page is for {' and '.join(roles)}s.")
        return actor

    return found


def posted(*roles: str) -> Callable[..., Any]:
    """A dependency: the form of somebody with one of the roles, sent from a page of theirs."""
    who = Depends(asking(*roles))  # as a default: an annotation finds no local name

    async def found(request: Request, actor: Actor = who) -> Asked:
        desk = desk_of(request)
        desk.limit(desk.config.posts_per_minute, "post", actor.pseudonym)
        form = await request.form(max_fields=2000, max_files=0)
        if not secrets.compare_digest(str(form.get("csrf", "")).encode(), actor.csrf.encode()):
            raise RefusedError(403, "This form is no longer valid; load the page again.")
        return Asked(actor, text_of(form), form)

    return found


def text_of(form: FormData) -> dict[str, str]:
    """The last text of each field, line ends as the rest of the line has them, without NUL, which PostgreSQL cannot hold."""
    return {key: value.replace("\r\n", "\n").replace("\0", "") for key, value in form.multi_items() if isinstance(value, str)}


def see(path: str) -> Response:
    """Go on at another page."""
    return RedirectResponse(path, 303)


def number(form: Mapping[str, str], key: str, default: float = 0.0) -> float:
    """A finite number of a form. Raises RefusedError."""
    try:
        value = float(form.get(key) or default)
    except ValueError:
        raise RefusedError(400, f"{key}: expected a number") from None
    if not abs(value) < 1e12:
        raise RefusedError(400, f"{key}: expected a finite number")
    return value


def chosen(form: Mapping[str, str], key: str, options: Sequence[str]) -> str:
    """One of the options. Raises RefusedError."""
    if (value := form.get(key, "")) not in options:
        raise RefusedError(400, f"{key}: expected one of {', '.join(options)}")
    return value
