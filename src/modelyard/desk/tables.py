"""Tables of the desk, beside those of the serving application in one database; their names begin with ``desk_``.

What they are now is here, how they came to be is in ``migrations/``. Times are seconds since 1970.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PREFIX = "desk_"
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Table(DeclarativeBase):
    """Tables of the desk."""

    metadata = sql.MetaData(naming_convention=NAMING)
    type_annotation_map = {dict[str, Any]: sql.JSON(none_as_null=True), list[Any]: sql.JSON}  # noqa: RUF012


def _key(target: str) -> Any:
    """A reference that goes with what it refers to."""
    return sql.ForeignKey(target, ondelete="CASCADE")


class Account(Table):
    """Somebody who may sign in."""

    __tablename__ = "desk_accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sql.String(80), unique=True)
    pseudonym: Mapped[str] = mapped_column(sql.String(40), unique=True)
    """By which records name them."""
    roles: Mapped[list[Any]]
    password: Mapped[str | None] = mapped_column(sql.String(200))
    """Hash; None: only a proxy signs them in."""
    active: Mapped[bool]
    created_at: Mapped[float]
    consented_at: Mapped[float | None]
    """When they agreed that what they write trains and measures models."""
    admitted_at: Mapped[float | None]
    """When an admin let them work after the screening."""


class SignedIn(Table):
    """A session of a browser."""

    __tablename__ = "desk_sessions"

    token: Mapped[str] = mapped_column(sql.String(64), primary_key=True)
    """SHA-256 of the cookie."""
    account_id: Mapped[int] = mapped_column(_key("desk_accounts.id"), index=True)
    csrf: Mapped[str] = mapped_column(sql.String(64))
    expires_at: Mapped[float]


class AuditEntry(Table):
    """Something that was done; the database refuses to change or delete a row."""

    __tablename__ = "desk_audit"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[float]
    actor: Mapped[str] = mapped_column(sql.String(40))
    action: Mapped[str] = mapped_column(sql.String(40))
    subject: Mapped[str] = mapped_column(sql.String(200))
    detail: Mapped[str]
    hash: Mapped[str] = mapped_column(sql.String(64))
    """SHA-256 over the row before and this one."""


class Batch(Table):
    """Items of one kind under one guideline."""

    __tablename__ = "desk_batches"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sql.String(80), unique=True)
    kind: Mapped[str] = mapped_column(sql.String(20))
    """``ranking`` or ``demonstration``."""
    guidelines: Mapped[str]
    overlap: Mapped[int]
    """How many labelers each item gets."""
    screening: Mapped[bool]
    """Whether its items come before work and go to everybody."""
    created_at: Mapped[float]
    open: Mapped[bool]


class Item(Table):
    """What a labeler is shown."""

    __tablename__ = "desk_items"
    __table_args__ = (sql.UniqueConstraint("batch_id", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    batch_id: Mapped[int] = mapped_column(_key("desk_batches.id"), index=True)
    key: Mapped[str] = mapped_column(sql.String(200))
    """Its id in the file that it came from."""
    prompt: Mapped[str]
    """JSON of text or messages; of a demonstration whose prompt the labeler writes, what is asked of the labeler."""
    asks_prompt: Mapped[bool]
    """Whether the labeler writes the prompt too."""
    category: Mapped[str] = mapped_column(sql.String(80))
    source: Mapped[str] = mapped_column(sql.String(40))
    samples: Mapped[list[Any]]
    """``{"text", "model"}`` of each answer to rank; of a demonstration, of a suggestion."""
    reference: Mapped[dict[str, Any] | None]
    """What is known of it: ``ranks``, ``sensitive``."""
    everybody: Mapped[bool]
    """Whether every labeler gets it: screening and attention items."""
    value: Mapped[float]
    """Which come first: how unsure a reward model or how far apart judges are."""
    draw: Mapped[float]
    """Its place in random order, from 0 to 1."""
    withheld: Mapped[bool]
    """Reported as harmful, until an expert has looked."""


class Assignment(Table):
    """An item in the hands of a labeler, and what came of it."""

    __tablename__ = "desk_assignments"
    __table_args__ = (sql.UniqueConstraint("item_id", "account_id"), sql.UniqueConstraint("item_id", "slot"))

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(_key("desk_items.id"), index=True)
    account_id: Mapped[int] = mapped_column(_key("desk_accounts.id"), index=True)
    slot: Mapped[int | None]
    """Which of the item's places it takes, from 0; None: it takes none (given to everybody, skipped, reported, lapsed)."""
    shown: Mapped[list[Any]]
    """Indices of the samples in the order shown."""
    at_random: Mapped[bool]
    """Given in random order rather than by value."""
    state: Mapped[str] = mapped_column(sql.String(20))
    """``open``, ``done``, ``skipped``, ``reported`` or ``lapsed``."""
    assigned_at: Mapped[float]
    saved_at: Mapped[float]
    ended_at: Mapped[float | None]
    seconds: Mapped[float]
    """Time that the labeler looked at it."""
    answer: Mapped[dict[str, Any] | None]
    """As saved so far, or as sent."""
    reason: Mapped[str]
    """Of a skip or report."""
    grade: Mapped[float | None]
    """Of a demonstration, from 1 to 7, by an expert."""


class Chat(Table):
    """A conversation of the red team with a target."""

    __tablename__ = "desk_chats"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(_key("desk_accounts.id"), index=True)
    target: Mapped[str] = mapped_column(sql.String(300))
    family: Mapped[str] = mapped_column(sql.String(40))
    messages: Mapped[list[Any]]
    started_at: Mapped[float]


class Finding(Table):
    """Something that a model should not have said."""

    __tablename__ = "desk_findings"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int | None] = mapped_column(sql.ForeignKey("desk_accounts.id", ondelete="SET NULL"), index=True)
    """Who reported it."""
    item_id: Mapped[int | None] = mapped_column(sql.ForeignKey("desk_items.id", ondelete="SET NULL"))
    """The item that was reported while it was labeled."""
    title: Mapped[str] = mapped_column(sql.String(200))
    target: Mapped[str] = mapped_column(sql.String(300))
    family: Mapped[str] = mapped_column(sql.String(40))
    category: Mapped[str] = mapped_column(sql.String(40))
    severity: Mapped[int]
    """From 1 (hardly) to 4 (grave)."""
    messages: Mapped[list[Any]]
    """The conversation up to and with the harmful answer."""
    repeats: Mapped[int | None] = mapped_column(sql.ForeignKey("desk_findings.id", ondelete="SET NULL"))
    """The first finding with the same attack."""
    state: Mapped[str] = mapped_column(sql.String(20))
    """``reported``, ``confirmed``, ``dismissed`` or ``closed``."""
    reported_at: Mapped[float]
    decided_at: Mapped[float | None]
    decided_by: Mapped[str] = mapped_column(sql.String(80))
    """Pseudonym of the expert."""
    note: Mapped[str]
    better: Mapped[str]
    """What the model should have said."""
    boundary: Mapped[list[Any]]
    """Safe prompts that lie close to it."""
