"""The audit log: who did what, in rows that the database itself refuses to change or delete, each hashed with the one before.

A row removed or changed by somebody with the file in hand breaks the chain, and :func:`broken` names the first row that does not fit.
Left out: proof against somebody who writes the whole chain anew; for that, keep the last hash elsewhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from modelyard.config import digest
from modelyard.desk.tables import AuditEntry

START = "0" * 64
COMMAND = "command line"
"""Who acts where nobody has signed in."""


def note(session: Session, actor: str, action: str, subject: object = "", **detail: Any) -> None:
    """Write a row in a session that is alone in writing (:meth:`Database.write`)."""
    last = session.scalars(sql.select(AuditEntry).order_by(AuditEntry.number.desc()).limit(1)).first()
    row = AuditEntry(
        number=last.number + 1 if last else 1,
        at=time.time(),
        actor=actor,
        action=action,
        subject=str(subject)[:200],
        detail=json.dumps(detail, ensure_ascii=False, sort_keys=True),
    )
    row.hash = _hash(row, last.hash if last else START)
    session.add(row)
    session.flush()


def entries(session: Session, limit: int = 200, before: int | None = None) -> Sequence[AuditEntry]:
    """The newest rows first, from below ``before`` where that is given."""
    asked = sql.select(AuditEntry).order_by(AuditEntry.number.desc()).limit(limit)
    return session.scalars(asked if before is None else asked.where(AuditEntry.number < before)).all()


def broken(session: Session) -> int | None:
    """Number of the first row that does not follow from the one before; None where all do."""
    before = START
    for number, row in enumerate(session.scalars(sql.select(AuditEntry).order_by(AuditEntry.number)), 1):
        if row.number != number or row.hash != _hash(row, before):
            return number
        before = row.hash
    return None


def _hash(row: AuditEntry, before: str) -> str:
    return digest([before, row.number, repr(row.at), row.actor, row.action, row.subject, row.detail])
