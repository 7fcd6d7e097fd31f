"""The red team: conversations with a target, automatic attacks, findings and what experts decide about them."""

from __future__ import annotations

import time
from typing import Annotated, Any

import sqlalchemy as sql
from fastapi import APIRouter, Depends, Response
from sqlalchemy.orm import Session

from modelyard.complaint import without_password
from modelyard.desk import audit
from modelyard.desk.red_team import findings
from modelyard.desk.red_team.families import CATEGORIES, FAMILIES, SEVERITIES
from modelyard.desk.red_team.findings import FindingError, Marked
from modelyard.desk.sessions import Actor
from modelyard.desk.tables import Account, Chat, Finding, Item
from modelyard.desk.web.desk import Asked, Desk, RefusedError, RowId, TheDesk, asking, chosen, number, posted, see

router = APIRouter()
Attacker = Annotated[Actor, Depends(asking("labeler", "expert"))]
FromAttacker = Annotated[Asked, Depends(posted("labeler", "expert"))]
FromExpert = Annotated[Asked, Depends(posted("expert"))]
LONGEST_MESSAGE = 20_000
GIVEN_UP = 3
"""Attacks that a target did not answer, after which no more are tried."""
WORDS: dict[str, Any] = {"families": FAMILIES, "categories": CATEGORIES, "severities": SEVERITIES}


@router.get("/red-team")
def overview(desk: TheDesk, actor: Attacker) -> Response:
    """Targets, one's own conversations, and findings: experts see all, others their own."""
    with desk.database.read() as session:
        mine = sql.select(Finding).order_by(Finding.state.desc(), Finding.severity.desc(), Finding.id)
        found = session.scalars(mine if actor.has("expert") else mine.where(Finding.account_id == actor.id)).all()
        chats = session.scalars(sql.select(Chat).where(Chat.account_id == actor.id).order_by(Chat.id.desc()).limit(50)).all()
        shown: dict[str, Any] = {"findings": found, "names": _names(session), "chats": chats, "targets": list(desk.config.addresses)}
        return desk.show("red_team.html", actor, **shown, **WORDS)


@router.post("/red-team")
def begin(desk: TheDesk, asked: FromAttacker) -> Response:
    """Begin a conversation, or run every automatic attack on a request as a conversation each."""
    target = chosen(asked.form, "target", list(desk.config.addresses))
    family = chosen(asked.form, "family", list(FAMILIES))
    request = asked.form.get("request", "").strip()[:LONGEST_MESSAGE]
    if asked.form.get("automatic") and not request:
        raise RefusedError(400, "Write the request that the attacks shall carry.")
    if asked.form.get("automatic"):
        _attack(desk, asked.actor, target, request)
        return see("/red-team")
    with desk.database.write() as session:
        chat = _begun(session, asked.actor, target, family, [])
        session.flush()
        place = chat.id
    return see(f"/chats/{place}")


@router.get("/chats/{place}")
def chat(place: RowId, desk: TheDesk, actor: Attacker) -> Response:
    """A conversation."""
    with desk.database.read() as session:
        return desk.show("chat.html", actor, chat=_own(session, place, actor), problem="", **WORDS)


@router.post("/chats/{place}/say")
def say(place: RowId, desk: TheDesk, asked: FromAttacker) -> Response:
    """Say something to the target; the page's conversation with its answer."""
    said, problem = asked.form.get("said", "").strip()[:LONGEST_MESSAGE], ""
    with desk.database.read() as session:
        mine = _own(session, place, asked.actor)
        messages, target = list(mine.messages), mine.target
    try:
        if said:
            messages += [{"role": "user", "content": said}]
            messages += [{"role": "assistant", "content": _answer(desk, target, messages)}]
            with desk.database.write() as session:
                _own(session, place, asked.actor).messages = messages
    except ValueError as error:
        problem = str(error)
    with desk.database.read() as session:
        return desk.show("turns.html", asked.actor, chat=_own(session, place, asked.actor), problem=problem)


@router.post("/chats/{place}")
def mark(place: RowId, desk: TheDesk, asked: FromAttacker) -> Response:
    """Report an answer of the conversation."""
    form, upto = asked.form, int(number(asked.form, "upto"))
    try:
        with desk.database.write() as session:
            mine = _own(session, place, asked.actor)
            marked = Marked(
                form.get("title", ""), mine.family, form.get("category", ""), int(number(form, "severity")), form.get("note", "")
            )
            found = findings.mark(
                session, session.get_one(Account, asked.actor.id), without_password(mine.target), mine.messages[:upto], marked
            )
            place_of = found.id
    except FindingError as error:
        raise RefusedError(400, str(error)) from None
    return see(f"/findings/{place_of}")


@router.get("/findings/{place}")
def finding(place: RowId, desk: TheDesk, actor: Attacker) -> Response:
    """A finding, and for an expert what to decide about it."""
    with desk.database.read() as session:
        return _finding(desk, session, place, actor, "")


@router.post("/findings/{place}")
def decide(place: RowId, desk: TheDesk, asked: FromExpert) -> Response:
    """Confirm or dismiss a finding."""
    action, form, problem = chosen(asked.form, "action", ("confirm", "dismiss")), asked.form, ""
    try:
        with desk.database.write() as session:
            found, by = session.get(Finding, place), session.get_one(Account, asked.actor.id)
            if found is None:
                raise RefusedError(404, "There is no such finding.")
            if action == "confirm":
                findings.confirm(
                    session, by, found, form.get("better", ""), form.get("boundary", "").split("\n"), int(number(form, "severity"))
                )
            else:
                findings.dismiss(session, by, found, form.get("note", ""))
                _give_out_again(session, found)
    except FindingError as error:
        problem = str(error)
    if problem:
        with desk.database.read() as session:
            return _finding(desk, session, place, asked.actor, problem, 400)
    return see("/red-team")


def _attack(desk: Desk, actor: Actor, target: str, request: str) -> None:
    """Every automatic attack, each kept as a conversation; one that the target cannot be sent (too long for it) stays without an answer.

    Raises RefusedError where it fails at several.
    """
    from modelyard.desk.red_team.attacks import attacks

    problems: list[str] = []
    found = attacks(request)
    for attack in found:
        messages = [message.model_dump() for message in attack.messages]
        try:
            messages.append({"role": "assistant", "content": _answer(desk, target, messages)})
        except ValueError as error:
            problems.append(str(error))
        if len(problems) == GIVEN_UP:
            raise RefusedError(502, problems[0])
        with desk.database.write() as session:
            _begun(session, actor, target, attack.family, messages)


def _begun(session: Session, actor: Actor, target: str, family: str, messages: list[dict[str, str]]) -> Chat:
    chat = Chat(account_id=actor.id, target=target, family=family, messages=messages, started_at=time.time())
    session.add(chat)
    audit.note(session, actor.pseudonym, "attack begun", target, family=family)
    return chat


def _answer(desk: Desk, target: str, messages: list[dict[str, str]]) -> str:
    from modelyard.desk.red_team.target import answer

    return answer(desk.config.addresses.get(without_password(target), target), messages, len(messages), desk.config.answer_tokens)


def _own(session: Session, place: int, actor: Actor) -> Chat:
    found = session.get(Chat, place)
    if found is None or found.account_id != actor.id:
        raise RefusedError(404, "There is no such conversation of yours.")
    return found


def _finding(desk: Desk, session: Session, place: int, actor: Actor, problem: str, status: int = 200) -> Response:
    found = session.get(Finding, place)
    if found is None or not (actor.has("expert") or found.account_id == actor.id):
        raise RefusedError(404, "There is no such finding of yours.")
    decides = actor.has("expert") and found.state == "reported" and found.account_id != actor.id
    measures = found.family in desk.config.regression_families
    shown = {"finding": found, "names": _names(session), "decides": decides, "measures": measures, "problem": problem}
    return desk.show("finding.html", actor, status, **shown, **WORDS)


def _give_out_again(session: Session, found: Finding) -> None:
    """An item that was reported while it was labeled, and that no other report withholds."""
    if found.item_id is not None and (item := session.get(Item, found.item_id)) is not None:
        item.withheld = findings.withholds(session, item.id)


def _names(session: Session) -> dict[str, str]:
    """Pseudonym -> name, which pages show and no record holds."""
    return {account.pseudonym: account.name for account in session.scalars(sql.select(Account))}
