"""Who gets which item, and what becomes of it. Every function works in a session that is alone in writing.

An item has as many places as its batch's overlap; a labeler takes a free one, and never the same item twice. Both are constraints of
the database as well. A skipped or reported item gives its place back. One that was left open too long may be taken by another; what
was saved of it stays, and whoever left it finds it again while a place is free. A share of the items goes out in random order, the
rest the most valuable first, so that figures over the random share speak of all items (the issue of active learning's bias).
"""

from __future__ import annotations

import random
import time
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from modelyard.desk import audit
from modelyard.desk.settings import DeskConfig
from modelyard.desk.tables import Account, Assignment, Batch, Item
from modelyard.desk.work.answers import AnswerError, complete, read

LONGEST_REASON = 2000


class AssignmentError(ValueError):
    """An assignment that is not theirs, or over."""


def following(session: Session, account: Account, batch: Batch, config: DeskConfig) -> Assignment | None:
    """The labeler's open item of the batch, else a new one; None where nothing is left for them."""
    mine = sql.select(Assignment).join(Item).where(Item.batch_id == batch.id, Assignment.account_id == account.id)
    open_ = session.scalars(mine.where(Assignment.state == "open", ~Item.withheld).order_by(Assignment.assigned_at)).first()
    if open_ is not None:
        return open_
    for lapsed in session.scalars(mine.where(Assignment.state == "lapsed", ~Item.withheld).order_by(Assignment.assigned_at)):
        if (slot := _free(session, lapsed.item_id, batch.overlap)) is not None:
            lapsed.slot, lapsed.state, lapsed.saved_at = slot, "open", time.time()
            return lapsed
    if not batch.open:
        return None
    done = session.scalar(sql.select(sql.func.count()).select_from(mine.subquery())) or 0
    if batch.screening or (done + 1) % config.attention_every == 0:
        if item := _unseen(session, account, batch, everybody=True):
            return _give(session, account, item, None, False)
        if batch.screening:
            return None
    at_random = random.Random(f"{batch.name}:{account.pseudonym}:{done}").random() < config.random_share
    item = _unseen(session, account, batch, everybody=False, at_random=at_random)
    if item is None and _lapse(session, account, batch, config):
        item = _unseen(session, account, batch, everybody=False, at_random=at_random)
    if item is None:
        return None
    slot = _free(session, item.id, batch.overlap)
    assert slot is not None  # _unseen asked for one
    return _give(session, account, item, slot, at_random)


def save(assignment: Assignment, answer: dict[str, Any], seconds: float) -> None:
    """Keep what was said so far. Raises AssignmentError where it is over."""
    if assignment.state not in ("open", "lapsed"):
        raise AssignmentError("This item has been sent already.")
    now = time.time()
    longest = now - assignment.assigned_at
    assignment.answer, assignment.saved_at = answer, now
    assignment.seconds = min(max(assignment.seconds, seconds), longest)


def submit(session: Session, assignment: Assignment, answer: dict[str, Any], seconds: float) -> None:
    """Send the answer. Raises AnswerError for what is missing; then it is saved all the same."""
    save(assignment, answer, seconds)
    item, batch = _of(session, assignment)
    said = complete(read(batch.kind, answer, len(item.samples)), item.asks_prompt, marks=batch.kind != "statements")
    if assignment.state == "lapsed":
        assignment.slot = _free(session, item.id, batch.overlap)
    late = assignment.state == "lapsed" and assignment.slot is None and not item.everybody
    assignment.answer = said.model_dump(mode="json")
    _end(assignment, "late" if late else "done")


def skip(assignment: Assignment, reason: str) -> None:
    """Give the item back with a reason. Raises AnswerError without one."""
    _given_back(assignment, "skipped", reason)


def report(session: Session, assignment: Assignment, reason: str) -> Item:
    """Give the item back as harmful: nobody else gets it until an expert has looked. Raises AnswerError without a reason."""
    _given_back(assignment, "reported", reason)
    item, batch = _of(session, assignment)
    item.withheld = True
    actor = session.get(Account, assignment.account_id)
    audit.note(session, actor.pseudonym if actor else "", "item reported", f"{batch.name}/{item.key}")
    return item


def own(session: Session, assignment: int, account: int) -> Assignment:
    """An assignment of that account. Raises AssignmentError."""
    found = session.get(Assignment, assignment)
    if found is None or found.account_id != account:
        raise AssignmentError("There is no such item of yours.")
    return found


def _give(session: Session, account: Account, item: Item, slot: int | None, at_random: bool) -> Assignment:
    shown = list(range(len(item.samples)))
    random.Random(f"{item.id}:{account.pseudonym}").shuffle(shown)
    now = time.time()
    given = Assignment(
        item_id=item.id, account_id=account.id, slot=slot, shown=shown, at_random=at_random, state="open", assigned_at=now, saved_at=now,
        seconds=0.0, reason="",
    )  # fmt: skip
    session.add(given)
    session.flush()
    return given


def _unseen(session: Session, account: Account, batch: Batch, *, everybody: bool, at_random: bool = False) -> Item | None:
    """The next item of the batch that this labeler has not had and that has a free place."""
    taken = sql.select(sql.func.count()).where(Assignment.item_id == Item.id, Assignment.slot.is_not(None)).scalar_subquery()
    seen = sql.exists().where(Assignment.item_id == Item.id, Assignment.account_id == account.id)
    wanted = sql.select(Item).where(Item.batch_id == batch.id, Item.everybody == everybody, ~Item.withheld, ~seen)
    if everybody:
        return session.scalars(wanted.order_by(Item.draw).limit(1)).first()
    order = (Item.draw,) if at_random else (Item.value.desc(), taken.desc(), Item.draw)
    return session.scalars(wanted.where(taken < batch.overlap).order_by(*order).limit(1)).first()


def _free(session: Session, item: int, overlap: int) -> int | None:
    """A free place of an item."""
    taken = set(session.scalars(sql.select(Assignment.slot).where(Assignment.item_id == item, Assignment.slot.is_not(None))))
    return next((slot for slot in range(overlap) if slot not in taken), None)


def _lapse(session: Session, account: Account, batch: Batch, config: DeskConfig) -> bool:
    """Take the place of whoever left an item that this labeler could do open too long; whether there was one."""
    over = time.time() - config.lapse_hours * 3600
    seen = sql.select(Assignment.item_id).where(Assignment.account_id == account.id)
    left = session.scalars(
        sql.select(Assignment)
        .join(Item)
        .where(Item.batch_id == batch.id, Assignment.state == "open", Assignment.slot.is_not(None), Assignment.saved_at < over)
        .where(~Item.withheld, Item.id.not_in(seen))
        .order_by(Assignment.saved_at)
        .limit(1)
    ).first()
    if left is None:
        return False
    left.state, left.slot = "lapsed", None
    session.flush()
    return True


def _given_back(assignment: Assignment, state: str, reason: str) -> None:
    if assignment.state not in ("open", "lapsed"):
        raise AssignmentError("This item has been sent already.")
    if not reason.strip():
        raise AnswerError("Say why.")
    assignment.slot, assignment.reason = None, reason.strip()[:LONGEST_REASON]
    _end(assignment, state)


def _end(assignment: Assignment, state: str) -> None:
    assignment.state, assignment.ended_at = state, time.time()


def _of(session: Session, assignment: Assignment) -> tuple[Item, Batch]:
    item = session.get_one(Item, assignment.item_id)
    return item, session.get_one(Batch, item.batch_id)
