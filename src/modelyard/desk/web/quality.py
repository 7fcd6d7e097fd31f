"""How the work goes: agreement in every batch, each labeler's figures, and demonstrations to grade. For experts and admins."""

from __future__ import annotations

import json
from typing import Annotated

import sqlalchemy as sql
from fastapi import APIRouter, Depends, Response

from modelyard.desk import audit
from modelyard.desk.sessions import Actor
from modelyard.desk.tables import Assignment, Batch, Item
from modelyard.desk.web.desk import Asked, RefusedError, RowId, TheDesk, asking, number, posted, see
from modelyard.desk.work import quality
from modelyard.desk.work.agreement import agreement, ranked
from modelyard.desk.work.answers import LARGEST_RATING, Writing
from modelyard.desk.work.export import labels

router = APIRouter()
Overseer = Annotated[Actor, Depends(asking("expert", "admin"))]


@router.get("/quality")
def overview(desk: TheDesk, actor: Overseer) -> Response:
    """Batches and labelers."""
    with desk.database.read() as session:
        found = labels(session)
        batches = []
        for batch in session.scalars(sql.select(Batch).order_by(Batch.name)):
            mine = [label for label in found if label.batch.id == batch.id]
            shared = [label for label in mine if not label.item.everybody]
            items = session.scalar(sql.select(sql.func.count()).select_from(Item).where(Item.batch_id == batch.id)) or 0
            held = session.scalar(sql.select(sql.func.count()).select_from(Item).where(Item.batch_id == batch.id, Item.withheld)) or 0
            done = sum(label.assignment.state == "done" for label in mine)
            at_random = [label for label in shared if label.assignment.at_random]
            both = {"all": agreement(ranked(shared)), "at_random": agreement(ranked(at_random))}
            batches.append({"batch": batch, "items": items, "withheld": held, "done": done, **both})
        figures = quality.figures(found, desk.config.screening)
        return desk.show("quality.html", actor, batches=batches, figures=figures, limits=desk.config.screening)


@router.get("/quality/demonstrations")
def demonstrations(desk: TheDesk, actor: Annotated[Actor, Depends(asking("expert"))]) -> Response:
    """Demonstrations to grade, those without a grade first; who wrote them is not shown."""
    with desk.database.read() as session:
        found = [label for label in labels(session, states=("done",)) if isinstance(label.said, Writing)]
        found.sort(key=lambda label: (label.assignment.grade is not None, label.assignment.id))
        near = {label.assignment.id for label in quality.copied(found)}
        shown = [
            {"label": one, "said": one.said, "prompt": json.loads(one.item.prompt), "near": one.assignment.id in near} for one in found
        ]
        return desk.show("demonstrations.html", actor, shown=shown, marks=range(1, LARGEST_RATING + 1))


@router.post("/quality/demonstrations/{place}")
def grade(place: RowId, desk: TheDesk, asked: Annotated[Asked, Depends(posted("expert"))]) -> Response:
    """Grade a demonstration from 1 to 7."""
    mark = number(asked.form, "grade")
    if mark not in range(1, LARGEST_RATING + 1):
        raise RefusedError(400, f"grade: from 1 to {LARGEST_RATING}")
    with desk.database.write() as session:
        found = session.get(Assignment, place)
        if found is None or found.state != "done":
            raise RefusedError(404, "There is no such demonstration.")
        if found.account_id == asked.actor.id:
            raise RefusedError(403, "Another expert grades what you wrote.")
        found.grade = mark
        audit.note(session, asked.actor.pseudonym, "demonstration graded", place, grade=mark)
    return see("/quality/demonstrations")
