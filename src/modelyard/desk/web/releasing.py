"""Releasers: one page per candidate with its gates and card, what changed, findings still open, and the signature."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import HTMLResponse

from modelyard.complaint import complaint
from modelyard.desk import audit
from modelyard.desk.red_team.findings import still_open
from modelyard.desk.red_team.regression import NAME, judged, settle
from modelyard.desk.releases import Releases
from modelyard.desk.sessions import Actor
from modelyard.desk.web.desk import Asked, Desk, RefusedError, TheDesk, asking, chosen, posted, see
from modelyard.printable import printable

router = APIRouter()
Releaser = Annotated[Actor, Depends(asking("releaser"))]
FromReleaser = Annotated[Asked, Depends(posted("releaser"))]
CARD_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"


@router.get("/releases")
def overview(desk: TheDesk, actor: Releaser) -> Response:
    """Every candidate of the store."""
    found = _releases(desk).candidates()
    return desk.show("releases.html", actor, candidates=found.read, unreadable=found.unreadable)


@router.get("/releases/{version}")
def candidate(version: str, desk: TheDesk, actor: Releaser) -> Response:
    """A candidate."""
    return _page(desk, actor, version, "")


@router.get("/releases/{version}/card")
def card(version: str, desk: TheDesk, actor: Releaser) -> Response:
    """Its card, in which no script runs and nothing is fetched."""
    try:
        shown = _releases(desk).card(version)
    except ValueError as error:
        raise RefusedError(404, complaint(error)) from None
    return HTMLResponse(shown, headers={"Content-Security-Policy": CARD_POLICY, "X-Frame-Options": "SAMEORIGIN"})


@router.post("/releases/{version}/sign")
def sign(version: str, desk: TheDesk, asked: FromReleaser) -> Response:
    """Sign it, in the name of the account."""
    from modelyard.release.sign_off import SignOff

    form, actor = asked.form, asked.actor
    said = {"decision": chosen(form, "decision", ("PROMOTE", "HOLD")), "name": actor.name, "reason": form.get("reason", "")}
    try:
        answer = SignOff.model_validate({**said, "red_team_findings": _findings(desk), "on": datetime.now(UTC).date()})
        ref = _releases(desk).sign(version, answer)
    except ValueError as error:
        return _page(desk, actor, version, complaint(error), 400)
    with desk.database.write() as session:
        audit.note(session, actor.pseudonym, "release signed", ref, decision=answer.decision)
    return see(f"/releases/{version}")


@router.post("/releases/{version}/settle")
def settled(version: str, desk: TheDesk, asked: FromReleaser) -> Response:
    """Close the findings that the candidate withstood where its safety gate passed, and open those again that it fell to."""
    try:
        found, records = _releases(desk).candidate(version), _releases(desk).records(version, NAME)
    except ValueError as error:
        raise RefusedError(404, complaint(error)) from None
    passed = any(gate.name == "safety" and gate.verdict == "PROMOTE" for gate in found.decision.gates)
    with desk.database.write() as session:
        settle(session, asked.actor.pseudonym, judged(session, records), f"decision/{version}", passed)
    return see(f"/releases/{version}")


def _page(desk: Desk, actor: Actor, version: str, problem: str, status: int = 200) -> Response:
    releases = _releases(desk)
    try:
        found, flipped, records = releases.candidate(version), releases.flipped(version), releases.records(version, NAME)
    except ValueError as error:
        raise RefusedError(404, complaint(error)) from None
    with desk.database.read() as session:
        shown = {"candidate": found, "flipped": flipped, "open_findings": still_open(session), "judged": judged(session, records)}
        return desk.show("release.html", actor, status, problem=problem, measured=bool(records), **shown)


def _findings(desk: Desk) -> str:
    """The findings that stay open, for the record of the signature."""
    with desk.database.read() as session:
        return "\n".join(printable(f"{one.id} {one.state} {one.family}: {one.title}") for one in still_open(session)[:20])


def _releases(desk: Desk) -> Releases:
    if desk.releases is None:
        raise RefusedError(404, "This desk has no store of releases.")
    return desk.releases
