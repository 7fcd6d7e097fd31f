"""Signing in and out, one's own password, and consent."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from modelyard.desk import accounts, audit, sessions
from modelyard.desk.sessions import Actor
from modelyard.desk.tables import Account
from modelyard.desk.web.desk import COOKIE, Asked, Desk, RefusedError, TheDesk, asking, posted, see, text_of

router = APIRouter()
BEFORE = "desk_before"
"""Cookie that the form to sign in must repeat: there is no session yet whose token it could carry."""


@router.get("/sign-in")
def form(desk: TheDesk, request: Request) -> Response:
    """The form."""
    if desk.config.proxy_header:
        return see("/")
    return _form(desk, "")


@router.post("/sign-in")
async def sign_in(desk: TheDesk, request: Request) -> Response:
    """Begin a session."""
    given = text_of(await request.form(max_fields=20, max_files=0))
    before = request.cookies.get(BEFORE, "")
    if desk.config.proxy_header or not before or not secrets.compare_digest(before.encode(), given.get("before", "").encode()):
        raise RefusedError(403, "This form is no longer valid; load the page again.")
    name, password = accounts.meant(given.get("name", "")), given.get("password", "")
    address = request.client.host if request.client else ""
    desk.limit(desk.config.sign_ins_per_minute, "sign-in", name)
    desk.limit(desk.config.sign_ins_per_minute * 5, "sign-in from", address)
    return await run_in_threadpool(_begin, desk, name, password)


def _begin(desk: Desk, name: str, password: str) -> Response:
    with desk.database.read() as session:
        found = accounts.verified(session, name, password)
        known = found.id if found else None
    with desk.database.write() as session:
        account = session.get(Account, known) if known is not None else None
        if account is None:
            audit.note(session, "nobody", "sign-in refused", name[:80])
        else:
            token = sessions.begin(session, account, desk.config.session_hours)
            audit.note(session, account.pseudonym, "signed in", account.pseudonym)
    if account is None:
        return _form(desk, "Name and password do not fit.", 401)
    answer = see("/")
    answer.delete_cookie(BEFORE)
    kept = int(desk.config.session_hours * 3600)
    answer.set_cookie(COOKIE, token, max_age=kept, httponly=True, samesite="strict", secure=desk.config.secure_cookies)
    return answer


@router.post("/sign-out")
def sign_out(desk: TheDesk, request: Request, asked: Annotated[Asked, Depends(posted())]) -> Response:
    """End the session."""
    with desk.database.write() as session:
        sessions.end(session, request.cookies.get(COOKIE, ""))
        audit.note(session, asked.actor.pseudonym, "signed out", asked.actor.pseudonym)
    answer = see("/sign-in")
    answer.delete_cookie(COOKIE)
    return answer


@router.get("/me")
def me(desk: TheDesk, actor: Annotated[Actor, Depends(asking())]) -> Response:
    """One's own account."""
    return desk.show("me.html", actor, said="")


@router.post("/me/password")
def password(desk: TheDesk, asked: Annotated[Asked, Depends(posted())]) -> Response:
    """Another password for oneself, given the old one."""
    actor, form = asked.actor, asked.form
    desk.limit(desk.config.sign_ins_per_minute, "sign-in", actor.name)
    try:
        with desk.database.write() as session:
            account = accounts.verified(session, actor.name, form.get("old", ""))
            if account is None:
                return desk.show("me.html", actor, 401, said="The old password is another.")
            accounts.set_password(session, actor.pseudonym, account, form.get("new", ""))
    except accounts.AccountError as error:
        return desk.show("me.html", actor, 400, said=str(error))
    return see("/sign-in")


@router.post("/me/consent")
def consent(desk: TheDesk, asked: Annotated[Asked, Depends(posted())]) -> Response:
    """Agree that what one writes is used."""
    with desk.database.write() as session:
        accounts.consent(session, accounts.find(session, asked.actor.name))
    return see("/")


def _form(desk: Desk, said: str, status: int = 200) -> Response:
    before = secrets.token_urlsafe(24)
    answer = desk.show("sign_in.html", None, status, said=said, before=before)
    answer.set_cookie(BEFORE, before, max_age=3600, httponly=True, samesite="strict", secure=desk.config.secure_cookies)
    return answer
