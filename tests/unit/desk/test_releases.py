"""A releaser sees a candidate as its evidence has it, and the signature is the one that the release's flow finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelyard.desk.database import Database
from modelyard.desk.red_team import findings
from modelyard.desk.red_team.findings import Marked
from modelyard.desk.releases import Releases
from modelyard.desk.settings import DeskConfig
from modelyard.desk.tables import Account
from modelyard.desk.web.app import application
from modelyard.release import signature
from modelyard.release.sign_off import read_answer
from modelyard.store.code_identity import code_version
from tests.unit.desk.browsing import Person, people, shown
from tests.unit.release.evidence import write_all, write_results
from tests.unit.release.test_audit import HELD, RULES, World, finished, world

__all__ = ["finished", "world"]


@pytest.fixture
def rex(database: Database, world: World) -> Person:
    people(database, "rex", role="releaser")
    people(database, "eva", "lea", role="expert")
    with database.write() as session:
        said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        findings.mark(session, session.get_one(Account, 2), "t", said, Marked("It leaks\u202e names", "encoding", "privacy", 3))
    app = application(database, DeskConfig(posts_per_minute=1000), Releases(world.store))
    return Person(app, "rex")


def test_signature_at_the_desk_is_the_artifact_that_the_flow_finds_and_the_audit_accepts(rex: Person, world: World) -> None:
    held = world.decide(HELD)
    assert "HOLD" in shown(rex.get("/releases"))
    page = rex.get(f"/releases/{held.version}")
    assert "preference HOLD" in shown(page)
    assert "It leaks" in shown(page)
    assert "Signature You sign as rex" in shown(page)
    card = rex.get(f"/releases/{held.version}/card")
    assert "sandbox" in card.headers["content-security-policy"]
    assert card.text == (world.store.fetch(held) / "card.html").read_text()
    assert rex.post(f"/releases/{held.version}/sign", decision="BLOCK", reason="x").status_code == 400
    assert "reason: needs visible text" in shown(rex.post(f"/releases/{held.version}/sign", decision="PROMOTE", reason=" "))
    assert world.store.built(signature.spec(world.store, "line", held)) is None
    signed = rex.post(f"/releases/{held.version}/sign", decision="PROMOTE", reason="the judge is known to be noisy")
    assert "PROMOTE by rex" in shown(signed)
    spec = signature.spec(world.store, "line", held)
    assert spec.code == code_version("modelyard.release.sign_off")
    kept = world.store.built(spec)
    assert world.audited(kept).verdict == "PROMOTE"
    answer = read_answer(world.store.fetch(kept))
    assert (answer.name, answer.reason) == ("rex", "the judge is known to be noisy")
    assert answer.red_team_findings == "1 reported encoding: It leaks\\u202e names"
    assert "was signed before" in shown(rex.post(f"/releases/{held.version}/sign", decision="HOLD", reason="no"))
    assert "overridden by rex" in shown(rex.get(f"/releases/{held.version}"))


@pytest.mark.parametrize("file", ["artifact.json", "decision.json"])
def test_decision_that_cannot_be_read_is_a_line_under_the_others(rex: Person, world: World, file: str) -> None:
    held, odd = world.decide(HELD), world.decide(RULES)
    (Path(world.store.storage.path(odd.ref)) / file).write_text("{}")
    other = Path(world.store.storage.path("policy/odd"))
    other.mkdir(parents=True)
    (other / "artifact.json").write_text("{}")
    page = rex.get("/releases")
    assert page.status_code == 200
    assert held.version in page.text
    assert f"Not readable: {odd.ref}: " in shown(page)


def test_blocked_decision_is_nobodys_to_sign_and_others_do_not_see_releases(rex: Person, world: World, database: Database) -> None:
    blocked = world.decide(RULES.model_copy(update={"max_alignment_tax": 0.0, "min_items": 10_000}))
    page = rex.get(f"/releases/{blocked.version}")
    assert "nobody's to sign" in shown(page)
    assert "nobody's to sign" in shown(rex.post(f"/releases/{blocked.version}/sign", decision="PROMOTE", reason="please"))
    lea = Person(rex.client.app, "lea")
    for path in ("/releases", f"/releases/{blocked.version}", f"/releases/{blocked.version}/card"):
        assert lea.get(path).status_code == 403
    for version in ("0" * 16, "..", "x%2F..%2F.."):
        assert version == ".." or rex.post(f"/releases/{version}/settle").status_code == 404
        assert rex.get(f"/releases/{version}").status_code in (404, 200 if version == ".." else 404)


def test_flipped_items_are_shown_side_by_side_losses_first(rex: Person, world: World, tmp_path: Path) -> None:
    files = write_all(tmp_path / "more")
    weights = json.loads((world.store.fetch(world.made["results"]) / "weights.json").read_text())
    write_results(files["baseline"], {**weights, "policy": "production"}, 52)
    rows = [json.loads(line) for line in (files["baseline"] / "records/policy/last_word.jsonl").read_text().splitlines()]
    rows[99]["score"], rows[99]["output"] = 1.0, "<b>right before</b>"
    (files["baseline"] / "records/policy/last_word.jsonl").write_text("\n".join(map(json.dumps, rows)))
    world.add("baseline", files["baseline"])
    decided = world.decide(RULES)
    page = rex.get(f"/releases/{decided.version}")
    found = Releases(world.store).flipped(decided.version)
    assert [one.benchmark for one in found] == ["last_word"] * 3
    assert {(one.was, one.now) for one in found} == {(1.0, 0.0)}
    assert page.text.count("production</b>") == 3
    assert "&lt;b&gt;right before" in page.text
