"""A release waits for a person: signed, refused, answered badly, or not answered in time. A real Prefect server, answered as its UI does."""

import threading
import time
from datetime import date
from uuid import UUID

import pytest
from prefect import flow, get_client, task
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.flow_runs import resume_flow_run
from prefect.testing.utilities import prefect_test_harness

from flows.sign_off import ask
from modelyard.desk.releases import Releases
from modelyard.release import signature
from modelyard.release.gates.gate import Decision, Gate
from modelyard.release.sign_off import SignOff, with_signature
from modelyard.store.artifacts import Store
from tests.unit.release.test_audit import HELD, World, finished, world

__all__ = ["finished", "world"]

pytestmark = pytest.mark.integration
PASSED = Decision(verdict="PROMOTE", gates=(Gate(name="data", verdict="PROMOTE", reason="fine", metrics={}),), comparisons=(), tax=())


@pytest.fixture(scope="module", autouse=True)
def server():
    with prefect_test_harness(server_startup_timeout=120):
        yield


@task
def afterwards(answer: SignOff | None) -> SignOff | None:
    """Work that follows must run, signed or not."""
    return answer


@flow
def waiting(seconds: int) -> SignOff | None:
    return afterwards(ask("line: PROMOTE: every gate is passed", seconds, lambda: None))


@flow
def waiting_for_the_desk(store: str, scratch: str, version: str, alone: bool = False) -> SignOff | None:
    at = Store(store, scratch)
    decided = at.get(f"decision/{version}")
    return afterwards(ask("line: HOLD: preference", 120, lambda: signature.kept(at, "line", decided), at_desk=alone))


def until_paused(name: str) -> UUID:
    """The run of this name, once it is paused."""
    with get_client(sync_client=True) as client:
        while True:
            found = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))
            if found and found[0].state.is_paused():
                return found[0].id
            time.sleep(0.2)


def answered(name: str, answers: list[dict], seconds: int = 120) -> SignOff | None:
    """What :func:`ask` returns when ``answers`` are given one after another."""

    def person() -> None:
        for answer in answers:
            resume_flow_run(until_paused(name), run_input=answer)

    somebody = threading.Thread(target=person, daemon=True)
    somebody.start()
    return waiting.with_options(flow_run_name=name)(seconds)


def test_sign_off_answer_in_the_form_is_what_the_flow_gets() -> None:
    given = {"decision": "PROMOTE", "name": "Ada", "reason": "read 50 samples", "red_team_findings": "two jailbreaks, fixed"}

    answer = answered("signed", [given])

    assert answer == SignOff(**given, on=date.today())
    signed = with_signature(PASSED, answer)
    assert signed.verdict == "PROMOTE"
    assert signed.gates[-1].reason == f"Ada, {date.today()}: read 50 samples; red team: two jailbreaks, fixed"


def test_sign_off_at_the_desk_resumes_the_paused_run_with_what_was_signed(world: World) -> None:
    held, answer = world.decide(HELD), SignOff(decision="PROMOTE", name="rex", reason="read 50 samples", on=date.today())

    def releaser() -> None:
        until_paused("desk")
        Releases(world.store).sign(held.version, answer)

    somebody = threading.Thread(target=releaser, daemon=True)
    somebody.start()
    run = waiting_for_the_desk.with_options(flow_run_name="desk")

    assert run(world.store.storage.url, str(world.store.scratch), held.version) == answer
    kept = world.store.built(signature.spec(world.store, "line", held))
    assert kept
    assert world.audited(kept).verdict == "PROMOTE"


def test_sign_off_that_counts_at_the_desk_alone_is_nobodys_who_answers_the_form(world: World) -> None:
    held, answer = world.decide(HELD), SignOff(decision="PROMOTE", name="rex", reason="read 50 samples", on=date.today())

    def people() -> None:
        resume_flow_run(until_paused("alone"), run_input={"decision": "PROMOTE", "name": "rex", "reason": "I say I am rex"})
        until_paused("alone")
        Releases(world.store).sign(held.version, answer)

    threading.Thread(target=people, daemon=True).start()
    run = waiting_for_the_desk.with_options(flow_run_name="alone")

    assert run(world.store.storage.url, str(world.store.scratch), held.version, alone=True) == answer


def test_sign_off_without_a_reason_is_asked_for_again() -> None:
    bad = {"decision": "PROMOTE", "name": "Ada", "reason": " "}

    unseen = {**bad, "name": "\u200b", "reason": "read it"}

    answer = answered("again", [bad, unseen, {**bad, "decision": "HOLD", "reason": "not yet"}])

    assert answer is not None
    assert with_signature(PASSED, answer).verdict == "HOLD"


def test_sign_off_nobody_in_time_is_a_hold_and_the_flow_goes_on() -> None:
    answer = waiting.with_options(flow_run_name="nobody")(3)

    assert answer is None
    held = with_signature(PASSED, answer)
    assert (held.verdict, held.gates[-1].reason) == ("HOLD", "nobody signed in time")
    with get_client(sync_client=True) as client:
        (found,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=["nobody"])))
    assert found.state.is_completed()
