"""Who may sign in, and as what. Passwords are hashed by Argon2id (RFC 9106) as argon2-cffi sets it.

A labeler's records carry a pseudonym, never the name. Removing an account takes with it everything that it wrote.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import sqlalchemy as sql
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.orm import Session

from modelyard.desk import audit
from modelyard.desk.tables import Account, Assignment, Chat, Finding, SignedIn
from modelyard.release.visible import visible

Role = Literal["labeler", "expert", "releaser", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 1000
LONGEST_NAME = 80
_HASHER = PasswordHasher()
_NOBODY = _HASHER.hash(secrets.token_hex())
"""What a password is held against where there is no such name, so that both take as long."""


class AccountError(ValueError):
    """An account that cannot be made or changed so."""


class Removed(NamedTuple):
    """What went with an account."""

    pseudonym: str
    answers: int
    chats: int


def create(session: Session, by: str, name: str, roles: Sequence[str], password: str | None) -> Account:
    """A new account; ``password`` None: a proxy signs it in. Raises AccountError."""
    name = _name(name)
    if session.scalars(named(name)).first():
        raise AccountError(f"name: there is an account {name!r} already")
    row = Account(
        name=name,
        pseudonym=f"p-{secrets.token_hex(5)}",
        roles=_roles(roles),
        password=None if password is None else hashed(password),
        active=True,
        created_at=time.time(),
    )
    session.add(row)
    session.flush()
    audit.note(session, by, "account made", row.pseudonym, roles=row.roles)
    return row


def set_password(session: Session, by: str, account: Account, password: str) -> None:
    """Another password; who is signed in with the old one no longer is. Raises AccountError."""
    account.password = hashed(password)
    session.execute(sql.delete(SignedIn).where(SignedIn.account_id == account.id))
    audit.note(session, by, "password set", account.pseudonym)


def set_roles(session: Session, by: str, account: Account, roles: Sequence[str]) -> None:
    """Other roles. Raises AccountError, also where no admin would be left."""
    wanted = _roles(roles)
    if "admin" not in wanted:
        _another_admin(session, account)
    account.roles = wanted
    audit.note(session, by, "roles set", account.pseudonym, roles=wanted)


def set_active(session: Session, by: str, account: Account, active: bool) -> None:
    """Shut an account out, or let it in again. Raises AccountError where no admin would be left."""
    if not active:
        _another_admin(session, account)
        session.execute(sql.delete(SignedIn).where(SignedIn.account_id == account.id))
    account.active = active
    audit.note(session, by, "account opened" if active else "account closed", account.pseudonym)


def admit(session: Session, by: str, account: Account, admitted: bool) -> None:
    """Let a labeler work, or only take the screening."""
    account.admitted_at = time.time() if admitted else None
    audit.note(session, by, "labeler admitted" if admitted else "labeler back to screening", account.pseudonym)


def consent(session: Session, account: Account) -> None:
    """The labeler agrees that what they write is used."""
    account.consented_at = time.time()
    audit.note(session, account.pseudonym, "consent given", account.pseudonym)


def remove(session: Session, by: str, account: Account) -> Removed:
    """Delete an account with every answer, chat and finding of it; what repeats a finding then stands for itself.

    Raises AccountError where no admin would be left.
    """
    _another_admin(session, account)

    def count(table: type[Assignment] | type[Chat]) -> int:
        return session.scalar(sql.select(sql.func.count()).select_from(table).where(table.account_id == account.id)) or 0

    gone = Removed(account.pseudonym, count(Assignment), count(Chat))
    for table in (Finding, Assignment, Chat, SignedIn):
        session.execute(sql.delete(table).where(table.account_id == account.id))
    session.delete(account)
    session.flush()
    audit.note(session, by, "account removed", gone.pseudonym, answers=gone.answers, chats=gone.chats)
    return gone


def named(name: str) -> sql.Select[tuple[Account]]:
    """The query for the account of that name."""
    return sql.select(Account).where(Account.name == meant(name))


def meant(name: str) -> str:
    """The name that somebody who types ``name`` means."""
    return name.strip(" ")


def find(session: Session, name: str) -> Account:
    """The account of that name. Raises AccountError."""
    found = session.scalars(named(name)).first()
    if found is None:
        raise AccountError(f"{name[:LONGEST_NAME]!r}: no such account")
    return found


def verified(session: Session, name: str, password: str) -> Account | None:
    """The account that this name and password open, or None; both take as long."""
    found = session.scalars(named(name)).first()
    stored = found.password if found and found.password else _NOBODY
    try:
        _HASHER.verify(stored, password[:LONGEST_PASSWORD])
    except (VerificationError, InvalidHashError):
        return None
    return found if found and found.active and found.password else None


def hashed(password: str) -> str:
    """The hash that is kept. Raises AccountError for a password that is too short or too long."""
    check_password(password)
    return _HASHER.hash(password)


def check(name: str, roles: Sequence[str] | None) -> None:
    """Raise AccountError for a name or roles that no account can have."""
    _name(name)
    if roles is not None:
        _roles(roles)


def check_password(password: str) -> None:
    """Raise AccountError for a password that is too short, too long or no text."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise AccountError(f"password: needs {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters, got {len(password)}")
    if not password.isprintable():
        raise AccountError("password: has characters that nobody can type")


def _name(name: str) -> str:
    try:
        name = visible(name)
    except ValueError as error:
        raise AccountError(f"name: {error}") from None
    if len(name) > LONGEST_NAME:
        raise AccountError(f"name: at most {LONGEST_NAME} characters, got {len(name)}")
    return name


def _roles(roles: Sequence[str]) -> list[str]:
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise AccountError(f"roles: some of {', '.join(ROLES)}, got {', '.join(unknown) or 'none'}")
    return [role for role in ROLES if role in roles]


def _another_admin(session: Session, account: Account) -> None:
    others = session.scalars(sql.select(Account).where(Account.id != account.id, Account.active))
    if "admin" in account.roles and not any("admin" in other.roles for other in others):
        raise AccountError(f"{account.name}: is the only admin")
