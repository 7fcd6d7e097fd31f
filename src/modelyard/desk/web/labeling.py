"""A labeler's item: shown blind and in random order, saved while it is worked on, sent, skipped or reported."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError
from sqlalchemy.orm import Session

from modelyard.complaint import first_error
from modelyard.desk.red_team.findings import report_item
from modelyard.desk.sessions import Actor
from modelyard.desk.tables import Account, Assignment, Batch, Item
from modelyard.desk.web.desk import Asked, Desk, RefusedError, RowId, TheDesk, asking, chosen, number, posted, see
from modelyard.desk.web.shown import clock
from modelyard.desk.work import assignment as work
from modelyard.desk.work.answers import FLAGS, LARGEST_RATING, RANKED, AnswerError, Ranking, Writing, read

router = APIRouter()
Labeler = Annotated[Actor, Depends(asking("labeler"))]
FromLabeler = Annotated[Asked, Depends(posted("labeler"))]


@router.get("/batches/{number}")
def next_item(number: RowId, desk: TheDesk, actor: Labeler) -> Response:
    """Go to the open item of a batch, or take a new one."""
    if not actor.consented:
        return see("/me")
    with desk.database.write() as session:
        batch, account = session.get(Batch, number), session.get_one(Account, actor.id)
        if batch is None:
            raise RefusedError(404, "There is no such batch.")
        if batch.screening == actor.admitted:
            raise RefusedError(
                403,
                "This batch is " + ("the screening, which you have passed." if batch.screening else "for those who passed the screening."),
            )
        given = work.following(session, account, batch, desk.config)
        if given is None:
            return desk.show("batch_done.html", actor, batch=batch)
        return see(f"/items/{given.id}")


@router.get("/items/{number}")
def item(number: RowId, desk: TheDesk, actor: Labeler) -> Response:
    """The item, as far as it was worked on."""
    with desk.database.read() as session:
        return _page(desk, session, actor, own(session, number, actor), "")


@router.post("/items/{number}/save")
def save(number: RowId, desk: TheDesk, asked: FromLabeler) -> Response:
    """Keep what was said so far, and say when."""
    with desk.database.write() as session:
        mine = own(session, number, asked.actor)
        try:
            work.save(mine, *said(session, mine, asked))
        except (work.AssignmentError, AnswerError) as error:
            return HTMLResponse(str(error), 409)
    return HTMLResponse(f"Saved {clock(time.time())}")


@router.post("/items/{number}")
def send(number: RowId, desk: TheDesk, asked: FromLabeler) -> Response:
    """Send, skip or report the item and go to the next."""
    action, actor, problem = chosen(asked.form, "action", ("submit", "skip", "report")), asked.actor, ""
    with desk.database.write() as session:
        mine = own(session, number, actor)
        batch = session.get_one(Item, mine.item_id).batch_id
        try:
            answer, seconds = said(session, mine, asked)
            if action == "submit":
                work.submit(session, mine, answer, seconds)
            else:
                work.save(mine, answer, seconds)
                _give_back(session, mine, action, asked)
        except (work.AssignmentError, AnswerError) as error:
            problem = str(error)
        if problem:
            return _page(desk, session, actor, mine, problem, 400)
    return see(f"/batches/{batch}")


def own(session: Session, number: int, actor: Actor) -> Assignment:
    """An assignment of theirs. Raises RefusedError."""
    try:
        return work.own(session, number, actor.id)
    except work.AssignmentError as error:
        raise RefusedError(404, str(error)) from None


def said(session: Session, mine: Assignment, asked: Asked) -> tuple[dict[str, Any], float]:
    """What the form says of the item, and how long it was looked at. Raises AnswerError."""
    item = session.get_one(Item, mine.item_id)
    batch = session.get_one(Batch, item.batch_id)
    try:
        answer = ranking(mine, asked) if batch.kind in RANKED else writing(asked)
    except ValidationError as error:
        raise AnswerError(first_error(error)) from None
    return answer.model_dump(mode="json"), number(asked.form, "seconds")


def ranking(mine: Assignment, asked: Asked) -> Ranking:
    """A ranking, from the order shown back to the item's."""
    places = {sample: place for place, sample in enumerate(mine.shown)}
    order = [places[sample] for sample in range(len(mine.shown))]
    return Ranking(
        ranks=tuple(_whole(asked, f"rank-{place}", len(order)) for place in order),
        ratings=tuple(_whole(asked, f"rating-{place}", LARGEST_RATING) for place in order),
        flags=tuple(tuple(flag for flag in FLAGS if flag in asked.several.getlist(f"flag-{place}")) for place in order),
        all_wrong="all_wrong" in asked.form,
        comment=asked.form.get("comment", ""),
    )


def writing(asked: Asked) -> Writing:
    """A demonstration."""
    form = asked.form
    taken = form.get("from_suggestion") == "1"
    return Writing(
        prompt=form.get("prompt", ""), completion=form.get("completion", ""), from_suggestion=taken, comment=form.get("comment", "")
    )


def _whole(asked: Asked, key: str, largest: int) -> int | None:
    given = asked.form.get(key, "")
    if given and not (given.isascii() and given.isdecimal() and len(given) < 4 and 1 <= int(given) <= largest):
        raise AnswerError(f"{key}: expected a number from 1 to {largest}.")
    return int(given) if given else None


def _give_back(session: Session, mine: Assignment, action: str, asked: Asked) -> None:
    reason = asked.form.get("reason", "")
    if action == "skip":
        work.skip(mine, reason)
        return
    item = work.report(session, mine, reason)
    report_item(session, session.get_one(Account, mine.account_id), item, reason)


def _page(desk: Desk, session: Session, actor: Actor, mine: Assignment, problem: str, status: int = 200) -> Response:
    item = session.get_one(Item, mine.item_id)
    batch = session.get_one(Batch, item.batch_id)
    if mine.state not in ("open", "lapsed"):
        return see(f"/batches/{batch.id}")
    texts = [item.samples[sample]["text"] for sample in mine.shown]
    shown = {"problem": problem, "batch": batch, "item": item, "mine": mine, "texts": texts, "prompt": json.loads(item.prompt)}
    answer = read(batch.kind, mine.answer, len(item.samples))
    shown |= {"questions": FLAGS, "marks": range(1, LARGEST_RATING + 1)} if batch.kind == "ranking" else {"questions": {}, "marks": ()}
    return desk.show("ranking.html" if batch.kind in RANKED else "demonstration.html", actor, status, **shown, said=answer)
