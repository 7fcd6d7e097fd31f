"""What was answered and what users said of it, in one database (SQLAlchemy: SQLite by default, PostgreSQL by URL).

Consent travels with every answer. Without it an answer is kept for the retention time, so that its user can still say something about
it, and never becomes training data; with it (OpenAI's ``store``, or said later with the feedback) it is kept until its user withdraws.
Personal data is redacted before anything is written; of an image its id is kept and nothing else. Left out: who a user really is; ``user`` is
the pseudonym that the client sends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from modelyard.complaint import complaint, without_password
from modelyard.data.filters.pii import PiiConfig, redact
from modelyard.formats.feedback import Message, Part, Prompt, TextPart, is_text

PII = PiiConfig(kinds=["email", "ip", "card", "national_id", "phone"], region="US")
HOUR = 3600.0


class UnknownAnswerError(ValueError):
    """There is no answer of that receipt, or its time is over."""


class Table(DeclarativeBase):
    """A table of the database."""


class Answered(Table):
    """An answer as it was delivered."""

    __tablename__ = "answers"

    receipt: Mapped[str] = mapped_column(sql.String(80), primary_key=True)
    said_at: Mapped[float] = mapped_column(index=True)
    user: Mapped[str] = mapped_column(sql.String(200), index=True)
    model: Mapped[str] = mapped_column(sql.String(200))
    weights: Mapped[str] = mapped_column(sql.String(80))
    prompt: Mapped[str]
    reply: Mapped[str]
    finish: Mapped[str] = mapped_column(sql.String(20))
    consent: Mapped[bool]
    opinions: Mapped[list[Said]] = relationship(cascade="all, delete-orphan", order_by="Said.number")


class Said(Table):
    """What its user said of it."""

    __tablename__ = "opinions"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    receipt: Mapped[str] = mapped_column(sql.ForeignKey("answers.receipt", ondelete="CASCADE"), index=True)
    said_at: Mapped[float]
    rating: Mapped[str | None] = mapped_column(sql.String(4))
    not_factual: Mapped[bool]
    better: Mapped[str]
    comment: Mapped[str]


class Withdrawn(Table):
    """An answer whose user agreed and took it back, until whatever traces there are of it have been removed."""

    __tablename__ = "withdrawn"

    receipt: Mapped[str] = mapped_column(sql.String(80), primary_key=True)
    user: Mapped[str] = mapped_column(sql.String(200), index=True)


class Entry(NamedTuple):
    """One answer as it was delivered."""

    receipt: str
    user: str
    """Pseudonym; "" where the client named none."""
    model: str
    weights: str
    prompt: Prompt
    reply: str
    finish: str
    consent: bool


class Opinion(NamedTuple):
    """What a user said of an answer."""

    rating: Literal["up", "down"] | None
    not_factual: bool
    better: str
    """The answer that should have been given; "" without one."""
    comment: str


class Kept(NamedTuple):
    """An answer whose user agreed that it may be used, and what was said of it."""

    entry: Entry
    opinions: Sequence[Opinion]


class Book:
    """The database. Safe to use from several threads and processes."""

    def __init__(self, url: str, retention_hours: float = 24.0) -> None:
        """Raises ValueError where the database cannot be opened."""
        self.retention = retention_hours * HOUR
        try:
            self.engine = sql.create_engine(url)
            if self.engine.dialect.name == "sqlite":
                sql.event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
            Table.metadata.create_all(self.engine)
        except (SQLAlchemyError, ImportError) as error:
            raise ValueError(f"{without_password(url)}: {complaint(error)}") from None

    def note(self, entry: Entry) -> None:
        """Write an answer, without personal data, and forget those whose time is over."""
        with self.session() as session:
            self._forget(session)
            session.add(
                Answered(
                    receipt=entry.receipt,
                    said_at=time.time(),
                    user=storable(entry.user),
                    model=entry.model,
                    weights=entry.weights,
                    prompt=json.dumps(plain(entry.prompt), ensure_ascii=False),
                    reply=clean(entry.reply),
                    finish=entry.finish,
                    consent=entry.consent,
                )
            )

    def hear(self, receipt: str, opinion: Opinion, user: str, consent: bool | None) -> None:
        """Write what the user of an answer says of it; ``consent`` changes what was agreed where it is not None.

        Raises:
            UnknownAnswerError: there is no such answer, its time is over, or it is another user's.
        """
        receipt, user = storable(receipt), storable(user)
        with self.session() as session:
            self._forget(session)
            answer = session.get(Answered, receipt)
            if answer is None or answer.user != user:
                raise UnknownAnswerError(f"no answer {receipt} of this user is kept")
            if answer.consent and consent is False:
                session.merge(Withdrawn(receipt=receipt, user=user))
            if consent is not None:
                answer.consent = consent
            answer.opinions.append(
                Said(
                    said_at=time.time(),
                    rating=opinion.rating,
                    not_factual=opinion.not_factual,
                    better=clean(opinion.better),
                    comment=clean(opinion.comment),
                )
            )

    def withdraw(self, user: str) -> list[str]:
        """Remove all that is a user's; the receipts that went."""
        with self.session() as session:
            gone = list(session.scalars(sql.select(Answered).where(Answered.user == user)))
            receipts = [answer.receipt for answer in gone]
            for answer in gone:
                session.delete(answer)
            session.execute(sql.delete(Withdrawn).where(Withdrawn.user == user))
        return receipts

    def receipts(self, user: str) -> list[str]:
        """Of all answers that are a user's, and of those that are gone but may have left a trace."""
        with self.session() as session:
            found = [session.scalars(sql.select(table.receipt).where(table.user == user)) for table in (Answered, Withdrawn)]
            return list(dict.fromkeys(receipt for receipts in found for receipt in receipts))

    def withdrawn(self) -> list[str]:
        """Receipts of answers whose users took consent back and whose traces have not been :meth:`removed`."""
        with self.session() as session:
            return list(session.scalars(sql.select(Withdrawn.receipt)))

    def removed(self, receipts: Sequence[str]) -> None:
        """The traces of these answers are gone, if there were any."""
        with self.session() as session:
            session.execute(sql.delete(Withdrawn).where(Withdrawn.receipt.in_(receipts)))

    def agreed(self) -> list[Kept]:
        """Every answer whose user agreed, the oldest first."""
        with self.session() as session:
            rows = session.scalars(sql.select(Answered).where(Answered.consent).order_by(Answered.said_at, Answered.receipt))
            return [Kept(_entry(row), [_opinion(one) for one in row.opinions]) for row in rows]

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction."""
        with Session(self.engine) as session, session.begin():
            yield session

    def _forget(self, session: Session) -> None:
        """Answers without consent whose retention time is over."""
        over = time.time() - self.retention
        for answer in session.scalars(sql.select(Answered).where(~Answered.consent, Answered.said_at < over)):
            session.delete(answer)


def _entry(row: Answered) -> Entry:
    prompt = json.loads(row.prompt)
    said: Prompt = prompt if isinstance(prompt, str) else tuple(Message.model_validate(message) for message in prompt)
    return Entry(row.receipt, row.user, row.model, row.weights, said, row.reply, row.finish, row.consent)


def _opinion(row: Said) -> Opinion:
    rating: Any = row.rating
    return Opinion(rating, row.not_factual, row.better, row.comment)


def plain(prompt: Prompt) -> Any:
    """The prompt as JSON, without personal data."""
    if is_text(prompt):
        return _written(prompt)
    return [{"role": message.role, "content": _written(message.content)} for message in prompt]


def _written(content: str | tuple[Part, ...]) -> Any:
    if isinstance(content, str):
        return clean(content)
    return [{"type": "text", "text": clean(part.text)} if isinstance(part, TextPart) else part.model_dump() for part in content]


def clean(text: str) -> str:
    """A text without personal data."""
    return redact(storable(text), PII).text


def storable(text: str) -> str:
    """A text without NUL, which PostgreSQL cannot hold."""
    return text.replace("\0", "")
