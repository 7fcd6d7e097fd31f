"""A version on trial: who gets it, what stops it, and that it stays stopped."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from scipy.stats import hypergeom

from modelyard.formats.feedback import Message
from modelyard.serving.beside import takes_part
from modelyard.serving.book import Book, Entry, Opinion
from modelyard.serving.trial import Heard, Judge, TrialRecord
from modelyard.stats.paired import fisher
from tests.unit.serving.running import Server

SAID = [{"role": "user", "content": "Which of these is red?"}]


def entry(receipt: str, weights: str, finish: str = "stop") -> Entry:
    return Entry(receipt, "u", "m", weights, (Message(role="user", content="a"),), "b", finish, True)


def test_trial_takes_its_share_of_users_and_keeps_them_when_it_grows() -> None:
    users = [f"user{n}" for n in range(4000)]
    tenth, half = ([takes_part(user, share) for user in users] for share in (0.1, 0.5))
    assert 340 < sum(tenth) < 460
    assert 1880 < sum(half) < 2120
    assert all(later for first, later in zip(tenth, half, strict=True) if first)
    assert not any(takes_part(user, 0.0) for user in users)
    assert all(takes_part(user, 1.0) for user in users)


def test_fisher_is_the_hypergeometric_tail() -> None:
    assert fisher(9, 40, 5, 200) == pytest.approx(float(hypergeom.sf(8, 240, 14, 40)), rel=1e-9)
    assert fisher(0, 40, 5, 200) == 1.0


def test_record_counts_what_was_disliked_wrong_or_held_and_what_both_were_asked(tmp_path: Path) -> None:
    book = Book(f"sqlite:///{tmp_path}/book.db")
    record = TrialRecord(book)
    for n, finish in enumerate(["stop", "length", "content_filter", "cancelled", "stop"]):
        book.note(entry(f"a{n}", "new", finish))
        book.note(entry(f"b{n}", "old"))
        record.pair(f"b{n}", "old", "new", served_held=n == 0, tried_held=n in (0, 1, 2))
    record.pair("gone", "old", "new", served_held=False, tried_held=True)
    book.hear("a0", Opinion("down", False, "", ""), "u", None)
    book.hear("a0", Opinion("down", True, "", ""), "u", None)
    book.hear("a1", Opinion("up", False, "", ""), "u", None)
    assert record.heard("new", 0.0) == Heard(4, 2)
    assert record.heard("old", 0.0) == Heard(5, 0)
    assert record.heard("new", time.time() + 1) == Heard(0, 0)
    assert record.pairs("old", "new") == (5, 2, 0)
    record.stop("new", "why")
    assert TrialRecord(Book(f"sqlite:///{tmp_path}/book.db")).stopped("new") == "why"
    assert record.stopped("old") == ""
    book.withdraw("u")
    assert record.pairs("old", "new") == (0, 0, 0)


class Counts:
    """A record whose counts are drawn: answers of a version on trial, and ten times as many of the served one."""

    def __init__(self, tried: float, served: float, seed: int) -> None:
        self.rates, self.draw = {"new": tried, "old": served}, random.Random(seed)
        self.found = {"new": [0, 0], "old": [0, 0]}
        self.looks: set[tuple[object, ...]] = set()

    def is_first_look(self, *look: object) -> bool:
        first = look not in self.looks
        self.looks.add(look)
        return first

    def answer(self) -> None:
        for weights, times in (("new", 1), ("old", 10)):
            self.found[weights][0] += times
            self.found[weights][1] += sum(self.draw.random() < self.rates[weights] for _ in range(times))

    def began(self, weights: str) -> float:
        return 0.0

    def heard(self, weights: str, since: float) -> Heard:
        return Heard(*self.found[weights])

    def pairs(self, served: str, tried: str) -> tuple[int, int, int]:
        return 0, 0, 0


def stopped_after(tried: float, served: float, seed: int, most: int = 1000) -> int | None:
    counts: Any = Counts(tried, served, seed)
    judge = Judge(counts, alpha=0.05)
    for n in range(1, most + 1):
        counts.answer()
        if judge.verdict("old", "new"):
            return n
    return None


def test_trial_that_is_looked_at_after_every_answer_condemns_rarely_and_finds_what_is_worse() -> None:
    assert sum(stopped_after(0.1, 0.1, seed) is not None for seed in range(100)) <= 10
    assert all((stopped_after(0.3, 0.1, seed) or 1000) <= 640 for seed in range(20))


def test_pairs_of_which_the_tried_one_is_held_more_often_stop_it(tmp_path: Path) -> None:
    book = Book(f"sqlite:///{tmp_path}/book.db")
    record = TrialRecord(book)
    for n in range(60):
        book.note(entry(f"b{n}", "old"))
        record.pair(f"b{n}", "old", "new", served_held=n == 59, tried_held=n % 4 == 0)
    reason = Judge(record, 0.05).verdict("old", "new")
    assert reason.startswith("of 60 prompts asked of both, 15 were held of it alone and 1 of old alone (p ")
    assert Judge(record, 0.05).verdict("old", "new") == "", "another server does not take the same look again"
    stricter = TrialRecord(Book(f"sqlite:///{tmp_path}/other.db"))
    stricter.pairs = record.pairs  # type: ignore[method-assign]
    assert Judge(stricter, 1e-6).verdict("old", "new") == ""


def ask(server: Server, user: str) -> Any:
    given = {"model": "hf", "messages": SAID, "max_tokens": 4, "temperature": 0, "user": user}
    return server.client.chat.completions.create(**given)


def health(server: Server) -> dict[str, Any]:
    return httpx.get(server.url.replace("/v1", "/health")).json()


@pytest.mark.slow
@pytest.mark.integration
def test_canary_that_its_users_dislike_is_stopped_and_no_later_server_tries_it(models: list[Path], tmp_path: Path) -> None:
    options = ["--canary", str(models[1]), "--share", "0.5", "--follow", "0.1", "--rows", "2"]
    server = Server(models[0], *options, directory=tmp_path)
    answers = [ask(server, f"user{n}") for n in range(40)]
    served = {one.system_fingerprint for one in answers}
    tried = f"fp_{health(server)['beside']['weights'][:16]}"
    assert len(served) == 2
    assert tried in served
    assert all(ask(server, f"user{n}").system_fingerprint == answers[n].system_fingerprint for n in range(6))
    assert health(server)["beside"]["share"] == 0.5
    for n, answer in enumerate(answers):
        if answer.system_fingerprint == tried:
            body = {"id": answer.id, "user": f"user{n}", "rating": "down"}
            assert httpx.post(f"{server.url}/feedback", json=body).status_code == 200
    for n in range(40, 240):
        ask(server, f"user{n}")
        if health(server)["beside"]["stopped"]:
            break
    deadline = time.monotonic() + 20
    while not (state := health(server)["beside"])["stopped"]:
        assert time.monotonic() < deadline, state
        time.sleep(0.1)
    assert "disliked, not factual or held" in state["stopped"]
    assert 'modelyard_tried_share{kind="canary"} 0.0' in httpx.get(server.url.replace("/v1", "/metrics")).text
    assert state["share"] == 0.0
    assert {ask(server, f"user{n}").system_fingerprint for n in range(10)} == served - {tried}
    server.end()

    again = Server(models[0], *options, directory=tmp_path)
    assert {ask(again, f"user{n}").system_fingerprint for n in range(10)} == served - {tried}
    assert again.end()[0] == 0


@pytest.mark.integration
def test_shadow_is_asked_what_is_asked_and_answers_nobody(models: list[Path], tmp_path: Path) -> None:
    server = Server(models[0], "--shadow", str(models[1]), "--rows", "2", directory=tmp_path)
    answers = {ask(server, "u").system_fingerprint for _ in range(5)}
    state = health(server)
    served, tried = (f"fp_{weights[:16]}" for weights in (state["weights"], state["beside"]["weights"]))
    assert answers == {served}
    record = TrialRecord(Book(f"sqlite:///{tmp_path}/.modelyard/serving.db"))
    deadline = time.monotonic() + 20
    while record.pairs(served, tried) != (5, 0, 0):
        assert time.monotonic() < deadline, record.pairs(served, tried)
        time.sleep(0.1)
    assert server.end()[0] == 0
    assert (state["beside"]["kind"], state["beside"]["share"]) == ("shadow", 1.0)
