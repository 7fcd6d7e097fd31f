"""The first page: what there is to do for whoever has signed in."""

from __future__ import annotations

from typing import Annotated

import sqlalchemy as sql
from fastapi import APIRouter, Depends, Response
from sqlalchemy.orm import Session

from modelyard.desk.sessions import Actor
from modelyard.desk.tables import Assignment, Batch, Finding, Item
from modelyard.desk.web.desk import TheDesk, asking

router = APIRouter()


@router.get("/")
def home(desk: TheDesk, actor: Annotated[Actor, Depends(asking())]) -> Response:
    """Batches with what is done and left of them, and findings that wait."""
    with desk.database.read() as session:
        batches = session.scalars(sql.select(Batch).where(Batch.open).order_by(Batch.name)).all() if actor.has("labeler") else ()
        mine = [batch for batch in batches if batch.screening != actor.admitted]
        work = [{"batch": batch, **progress(session, batch, actor)} for batch in mine]
        waiting = session.scalar(sql.select(sql.func.count()).select_from(Finding).where(Finding.state == "reported"))
        return desk.show("home.html", actor, work=work, waiting=waiting)


def progress(session: Session, batch: Batch, actor: Actor) -> dict[str, int]:
    """Items of the batch that the labeler has ended, all of them, and labels that are still wanted of anybody."""
    ended = sql.select(sql.func.count()).select_from(Assignment).join(Item).where(Item.batch_id == batch.id)
    mine = session.scalar(ended.where(Assignment.account_id == actor.id, Assignment.state != "open", Assignment.state != "lapsed")) or 0
    shared = (
        sql.select(sql.func.count()).select_from(Item).where(Item.batch_id == batch.id, ~Item.withheld, Item.everybody == batch.screening)
    )
    items = session.scalar(shared) or 0
    done = session.scalar(ended.where(Assignment.state == "done", Assignment.slot.is_not(None))) or 0
    return {"mine": mine, "items": items, "left": items - mine if batch.screening else items * batch.overlap - done}
