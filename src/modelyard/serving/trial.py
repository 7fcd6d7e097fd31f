"""What is known of a version that is tried beside the one that serves (:mod:`modelyard.serving.beside`), and when that says it is worse.

It is judged on live traffic: a canary by the answers that users disliked, called not factual, or that were held (Fisher's exact
test, since different users are compared), a shadow prompt by prompt by what was held (McNemar's exact test, the regression gate's).
Found worse, it stays stopped however often a server starts. Left out: differences of speed.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import sqlalchemy as sql
from sqlalchemy.orm import Mapped, mapped_column

from modelyard.serving.book import Answered, Book, Said, Table
from modelyard.stats.paired import fisher, mcnemar

FIRST_LOOK = 40
"""Answers or pairs at the first test; every further one is at twice as many."""


class _Pair(Table):
    __tablename__ = "shadowed"

    receipt: Mapped[str] = mapped_column(sql.ForeignKey("answers.receipt", ondelete="CASCADE"), primary_key=True)
    said_at: Mapped[float]
    served: Mapped[str] = mapped_column(sql.String(80))
    tried: Mapped[str] = mapped_column(sql.String(80), index=True)
    served_held: Mapped[bool]
    tried_held: Mapped[bool]


class _Stopped(Table):
    __tablename__ = "stopped"

    weights: Mapped[str] = mapped_column(sql.String(80), primary_key=True)
    said_at: Mapped[float]
    reason: Mapped[str]


class _Look(Table):
    __tablename__ = "looks"

    test: Mapped[str] = mapped_column(sql.String(20), primary_key=True)
    served: Mapped[str] = mapped_column(sql.String(80), primary_key=True)
    tried: Mapped[str] = mapped_column(sql.String(80), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


class Heard(NamedTuple):
    """Answers of one version."""

    answers: int
    bad: int
    """Of them disliked, called not factual, or held by the content filter."""


class TrialRecord:
    """What is known of versions on trial, in the database of the answers."""

    def __init__(self, book: Book) -> None:
        self.book = book
        Table.metadata.create_all(book.engine)

    def pair(self, receipt: str, served: str, tried: str, served_held: bool, tried_held: bool) -> None:
        """Write how one prompt's two answers ended, for as long as the answer is kept; ``served`` and ``tried`` are fingerprints."""
        with self.book.session() as session:
            if session.get(Answered, receipt) is not None:
                row = _Pair(
                    receipt=receipt, said_at=time.time(), served=served, tried=tried, served_held=served_held, tried_held=tried_held
                )
                session.merge(row)

    def heard(self, weights: str, since: float) -> Heard:
        """Answers of ``weights`` that ended since then (seconds since 1970)."""
        disliked = sql.select(Said.receipt).where(sql.or_(Said.rating == "down", Said.not_factual))
        bad = sql.or_(Answered.receipt.in_(disliked), Answered.finish == "content_filter")
        mine = sql.and_(Answered.weights == weights, Answered.said_at >= since, Answered.finish.in_(("stop", "length", "content_filter")))
        with self.book.session() as session:
            answers, found = session.execute(sql.select(sql.func.count(), sql.func.count().filter(bad)).where(mine)).one()
        return Heard(answers, found)

    def began(self, weights: str) -> float | None:
        """When the first kept answer of ``weights`` ended."""
        with self.book.session() as session:
            return session.scalar(sql.select(sql.func.min(Answered.said_at)).where(Answered.weights == weights))

    def pairs(self, served: str, tried: str) -> tuple[int, int, int]:
        """Pairs, those of which only the version on trial was held, and those of which only the served one was."""
        both = sql.and_(_Pair.served == served, _Pair.tried == tried)
        worse, better = (sql.and_(a, ~b) for a, b in ((_Pair.tried_held, _Pair.served_held), (_Pair.served_held, _Pair.tried_held)))
        with self.book.session() as session:
            counted = sql.select(sql.func.count(), sql.func.count().filter(worse), sql.func.count().filter(better))
            n, lost, gained = session.execute(counted.where(both)).one()
        return n, lost, gained

    def is_first_look(self, test: str, served: str, tried: str, number: int) -> bool:
        """Whether nobody has taken this look yet; it is taken now."""
        with self.book.session() as session:
            if session.get(_Look, (test, served, tried, number)) is not None:
                return False
            session.add(_Look(test=test, served=served, tried=tried, number=number))
        return True

    def stop(self, weights: str, reason: str) -> None:
        """Remember that a version was found worse."""
        with self.book.session() as session:
            session.merge(_Stopped(weights=weights, said_at=time.time(), reason=reason))

    def stopped(self, weights: str) -> str:
        """Why a version was stopped; "" where it was not."""
        with self.book.session() as session:
            row = session.get(_Stopped, weights)
            return row.reason if row else ""


class Judge:
    """Tests a version on trial at growing numbers of answers, so that looking often does not condemn by chance.

    The first look is at :data:`FIRST_LOOK` answers, the k-th at twice as many as the one before, at ``alpha`` times
    6 / (pi k)^2, and no look is taken twice, by whichever server. So a version as good as the served one is stopped with
    probability at most ``alpha`` by each of the two tests, however long the trial.
    """

    def __init__(self, record: TrialRecord, alpha: float) -> None:
        self.record, self.alpha = record, alpha

    def verdict(self, served: str, tried: str) -> str:
        """Why the version on trial is worse than the served one; "" where nothing says so."""
        return self._by_opinions(served, tried) or self._by_pairs(served, tried)

    def _by_opinions(self, served: str, tried: str) -> str:
        since = self.record.began(tried)
        if since is None:
            return ""
        its, other = self.record.heard(tried, since), self.record.heard(served, since)
        if not other.answers or (bound := self._bound("opinions", served, tried, its.answers)) is None:
            return ""
        p = fisher(its.bad, its.answers, other.bad, other.answers)
        if p >= bound:
            return ""
        return f"{its.bad} of {its.answers} answers disliked, not factual or held, of {served} {other.bad} of {other.answers} (p {p:.2g})"

    def _by_pairs(self, served: str, tried: str) -> str:
        n, lost, gained = self.record.pairs(served, tried)
        bound = self._bound("pairs", served, tried, n)
        p = mcnemar(gained, lost)
        if bound is None or lost <= gained or p >= bound:
            return ""
        return f"of {n} prompts asked of both, {lost} were held of it alone and {gained} of {served} alone (p {p:.2g})"

    def _bound(self, test: str, served: str, tried: str, n: int) -> float | None:
        """The level of the look that is due at ``n`` answers; None where none is."""
        if n < FIRST_LOOK:
            return None
        look = 1 + int(math.log2(n / FIRST_LOOK))
        return self.alpha * 6 / (math.pi * look) ** 2 if self.record.is_first_look(test, served, tried, look) else None
