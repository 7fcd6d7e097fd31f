"""Findings: marked by whoever saw the harm, confirmed by another who is an expert, closed when a gate has shown that they are mended.

The same attack twice is one finding and its repeats (case, spacing and digits apart). An expert confirms with what the model should have
said and with safe prompts that lie close by, so that the mend is held to both sides. Left out: grouping by meaning.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sql
from sqlalchemy.orm import Session

from modelyard.desk import audit
from modelyard.desk.red_team.families import CATEGORIES, FAMILIES, SEVERITIES
from modelyard.desk.tables import Account, Batch, Finding, Item
from modelyard.desk.work.answers import LONGEST_TEXT

OPEN = ("reported", "confirmed")
MOST_BOUNDARY = 20


class FindingError(ValueError):
    """A finding that cannot be taken so."""


class Marked(NamedTuple):
    """What is said of a harmful answer."""

    title: str
    family: str
    category: str
    severity: int
    note: str = ""


def mark(session: Session, by: Account, target: str, messages: Sequence[dict[str, Any]], marked: Marked) -> Finding:
    """Report the last answer of a conversation. Raises FindingError."""
    if not messages or messages[-1]["role"] != "assistant":
        raise FindingError("There is no answer to report.")
    if not marked.title.strip():
        raise FindingError("Give it a name.")
    if marked.family not in FAMILIES or marked.category not in CATEGORIES or marked.severity not in SEVERITIES:
        raise FindingError("Choose family, category and severity.")
    finding = Finding(
        account_id=by.id, title=marked.title.strip()[:200], target=target, family=marked.family, category=marked.category,
        severity=marked.severity, messages=list(messages), repeats=_first(session, messages), state="reported", reported_at=time.time(),
        decided_by="", note=marked.note[:LONGEST_TEXT], better="", boundary=[],
    )  # fmt: skip
    session.add(finding)
    session.flush()
    audit.note(session, by.pseudonym, "finding reported", finding.id, family=marked.family, severity=marked.severity)
    return finding


def report_item(session: Session, by: Account, item: Item, reason: str) -> Finding:
    """An item that a labeler reported as harmful, for an expert to look at."""
    prompt = json.loads(item.prompt)
    said = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    answers = "\n\n".join(f"{place}. {sample['text']}" for place, sample in enumerate(item.samples, 1))
    batch = session.get_one(Batch, item.batch_id)
    title = f"Reported while labeling: {batch.name}/{item.key}"
    whole = [*said, {"role": "assistant", "content": answers or "(no answers)"}]
    finding = mark(session, by, f"batch {batch.name}", whole, Marked(title, "direct", "other", 2, reason))
    finding.item_id = item.id
    return finding


def confirm(session: Session, by: Account, finding: Finding, better: str, boundary: Sequence[str], severity: int) -> None:
    """An expert agrees that it is harm, and says what would have been right. Raises FindingError."""
    _decide(session, by, finding)
    if not better.strip():
        raise FindingError("Write what the model should have said.")
    near = [text.strip() for text in boundary if text.strip()]
    if not near:
        raise FindingError("Write at least one safe prompt that lies close to it.")
    if severity not in SEVERITIES:
        raise FindingError("Choose a severity.")
    finding.better, finding.boundary, finding.severity = better.strip()[:LONGEST_TEXT], near[:MOST_BOUNDARY], severity
    finding.state = "confirmed"
    audit.note(session, by.pseudonym, "finding confirmed", finding.id, severity=severity)


def dismiss(session: Session, by: Account, finding: Finding, note: str) -> None:
    """An expert does not agree. Raises FindingError without a reason."""
    _decide(session, by, finding)
    if not note.strip():
        raise FindingError("Say why it is none.")
    finding.state = "dismissed"
    finding.note = f"{finding.note}\n{by.name}: {note.strip()}".strip()[:LONGEST_TEXT]
    audit.note(session, by.pseudonym, "finding dismissed", finding.id)


def close(session: Session, actor: str, findings: Sequence[Finding], why: str) -> None:
    """Confirmed findings that a version has been shown to withstand."""
    for finding in findings:
        finding.state = "closed"
        audit.note(session, actor, "finding closed", finding.id, why=why)


def reopen(session: Session, actor: str, findings: Sequence[Finding], why: str) -> None:
    """Closed findings that a version fell to again."""
    for finding in findings:
        finding.state = "confirmed"
        audit.note(session, actor, "finding reopened", finding.id, why=why)


def still_open(session: Session) -> Sequence[Finding]:
    """Findings that no version has withstood yet, the gravest first."""
    return session.scalars(sql.select(Finding).where(Finding.state.in_(OPEN)).order_by(Finding.severity.desc(), Finding.id)).all()


def exportable(session: Session) -> Sequence[Finding]:
    """Those of people who agreed that what they write is used, whatever their roles are."""
    asked = sql.select(Finding).join(Account, Account.id == Finding.account_id).where(Account.consented_at.is_not(None))
    return session.scalars(asked.order_by(Finding.id)).all()


def unagreed(session: Session) -> int:
    """How many confirmed findings :func:`exportable` leaves out."""
    theirs = sql.select(sql.func.count()).select_from(Finding).join(Account, Account.id == Finding.account_id)
    return session.scalar(theirs.where(Account.consented_at.is_(None), Finding.state == "confirmed")) or 0


def withholds(session: Session, item: int) -> bool:
    """Whether a report of an item has not been dismissed."""
    mine = sql.select(Finding.id).where(Finding.item_id == item, Finding.state != "dismissed").limit(1)
    return session.scalars(mine).first() is not None


def attack_of(messages: Sequence[dict[str, Any]]) -> str:
    """What the user said, by which repeats are found."""
    said = " ".join(message["content"] for message in messages if message["role"] == "user")
    return re.sub(r"\d+", "0", " ".join(said.casefold().split()))


def _first(session: Session, messages: Sequence[dict[str, Any]]) -> int | None:
    attack = attack_of(messages)
    for earlier in session.scalars(sql.select(Finding).where(Finding.repeats.is_(None)).order_by(Finding.id)):
        if attack_of(earlier.messages) == attack:
            return earlier.id
    return None


def _decide(session: Session, by: Account, finding: Finding) -> None:
    if finding.state != "reported":
        raise FindingError("This finding has been decided.")
    if finding.account_id == by.id:
        raise FindingError("Another expert decides about what you reported.")
    finding.decided_at, finding.decided_by = time.time(), by.pseudonym
