"""Accounts and the audit log, for admins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import sqlalchemy as sql
from fastapi import APIRouter, Depends, Response
from sqlalchemy.orm import Session

from modelyard.desk import accounts, audit
from modelyard.desk.sessions import Actor
from modelyard.desk.tables import Account, Batch
from modelyard.desk.web.desk import Asked, Desk, RefusedError, RowId, TheDesk, asking, chosen, posted, see

router = APIRouter()
Admin = Annotated[Actor, Depends(asking("admin"))]
FromAdmin = Annotated[Asked, Depends(posted("admin"))]
ACTIONS: dict[str, Callable[[Session, str, Account], object]] = {
    "close": lambda session, by, account: accounts.set_active(session, by, account, False),
    "open": lambda session, by, account: accounts.set_active(session, by, account, True),
    "admit": lambda session, by, account: accounts.admit(session, by, account, True),
    "screen": lambda session, by, account: accounts.admit(session, by, account, False),
    "remove": accounts.remove,
}


@router.get("/accounts")
def all_accounts(desk: TheDesk, actor: Admin) -> Response:
    """Who may sign in."""
    return _page(desk, actor, "")


@router.post("/accounts")
def new_account(desk: TheDesk, asked: FromAdmin) -> Response:
    """Make an account."""
    roles = [str(role) for role in asked.several.getlist("role")]
    password = None if desk.config.proxy_header else asked.form.get("password", "")
    try:
        with desk.database.write() as session:
            accounts.create(session, asked.actor.pseudonym, asked.form.get("name", ""), roles, password)
    except accounts.AccountError as error:
        return _page(desk, asked.actor, str(error), 400)
    return see("/accounts")


@router.post("/accounts/{number}")
def change_account(number: RowId, desk: TheDesk, asked: FromAdmin) -> Response:
    """Close, open, admit, set roles or password of, or remove an account."""
    action, by = asked.form.get("action", ""), asked.actor.pseudonym
    try:
        with desk.database.write() as session:
            account = session.get(Account, number)
            if account is None:
                raise RefusedError(404, "There is no such account.")
            if action == "roles":
                accounts.set_roles(session, by, account, [str(role) for role in asked.several.getlist("role")])
            elif action == "password":
                accounts.set_password(session, by, account, asked.form.get("password", ""))
            else:
                if action == "remove" and asked.form.get("confirmed") != account.name:
                    raise accounts.AccountError("To remove an account, write its name beside the button.")
                ACTIONS[chosen(asked.form, "action", list(ACTIONS))](session, by, account)
    except accounts.AccountError as error:
        return _page(desk, asked.actor, str(error), 400)
    return see("/accounts")


@router.post("/batches/{number}")
def change_batch(number: RowId, desk: TheDesk, asked: FromAdmin) -> Response:
    """Open or close a batch for labelers."""
    state = chosen(asked.form, "action", ("open", "close"))
    with desk.database.write() as session:
        batch = session.get(Batch, number)
        if batch is None:
            raise RefusedError(404, "There is no such batch.")
        batch.open = state == "open"
        audit.note(session, asked.actor.pseudonym, f"batch {'opened' if batch.open else 'closed'}", batch.name)
    return see("/quality")


@router.get("/audit")
def log(desk: TheDesk, actor: Admin, before: RowId | None = None) -> Response:
    """What was done, the newest first."""
    with desk.database.read() as session:
        rows = audit.entries(session, before=before)
        names = {account.pseudonym: account.name for account in session.scalars(sql.select(Account))}
        return desk.show("audit.html", actor, rows=rows, names=names, broken=audit.broken(session))


def _page(desk: Desk, actor: Actor, said: str, status: int = 200) -> Response:
    with desk.database.read() as session:
        found = session.scalars(sql.select(Account).order_by(Account.name)).all()
        return desk.show("accounts.html", actor, status, accounts=found, roles=accounts.ROLES, said=said)
