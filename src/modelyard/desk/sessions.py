"""Browser sessions: a random token in a cookie, its hash in the database, and a second token that every form must carry (CSRF)."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import NamedTuple

import sqlalchemy as sql
from sqlalchemy.orm import Session

from modelyard.desk.tables import Account, SignedIn


class Actor(NamedTuple):
    """Who asks."""

    id: int
    name: str
    pseudonym: str
    roles: tuple[str, ...]
    csrf: str
    """What a form of theirs must carry."""
    consented: bool
    admitted: bool

    def has(self, *roles: str) -> bool:
        """Whether they have one of the roles."""
        return bool(set(roles) & set(self.roles))


def begin(session: Session, account: Account, hours: float) -> str:
    """A new session; the token for the cookie. Sessions that are over go."""
    token = secrets.token_urlsafe(32)
    session.execute(sql.delete(SignedIn).where(SignedIn.expires_at < time.time()))
    expires = time.time() + hours * 3600
    session.add(SignedIn(token=_hash(token), account_id=account.id, csrf=secrets.token_urlsafe(24), expires_at=expires))
    return token


def end(session: Session, token: str) -> None:
    """Sign out."""
    session.execute(sql.delete(SignedIn).where(SignedIn.token == _hash(token)))


def actor_of(session: Session, token: str) -> Actor | None:
    """Who holds the token; None where it is unknown or its time is over, or the account is closed."""
    found = session.execute(
        sql.select(SignedIn, Account)
        .join(Account, Account.id == SignedIn.account_id)
        .where(SignedIn.token == _hash(token), SignedIn.expires_at > time.time(), Account.active)
    ).first()
    return actor(found[1], found[0].csrf) if found else None


def actor(account: Account, csrf: str) -> Actor:
    """The account as who asks."""
    told = (account.consented_at is not None, account.admitted_at is not None)
    return Actor(account.id, account.name, account.pseudonym, tuple(account.roles), csrf, *told)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
