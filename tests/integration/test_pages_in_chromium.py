"""People at the desk and at a served model's chat page in a real browser, with its keys, cookies, policies and widths."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from bench.browser import Browser, browser, program
from modelyard.commands.app import main
from modelyard.desk.work.answers import FLAGS
from modelyard.formats.feedback import ImagePart, TextPart
from modelyard.formats.images import cleaned
from modelyard.release import signature
from modelyard.release.sign_off import read_answer
from modelyard.serving.book import Book, Opinion, clean
from tests.integration.people_at_the_desk import (
    ANOTHER,
    GUIDELINES,
    HALF,
    REPORTED,
    SKIPPED,
    UNA,
    admits,
    agrees,
    attacks,
    judges,
    lea_works,
    leo_works,
    makes_accounts,
    of_item,
    overseen,
    screened,
    signs,
    writes,
)
from tests.integration.walking import PASSWORD, PHONE, Person, desk_at, lines, look, person
from tests.unit.desk.browsing import POSTGRESQL, postgresql, question
from tests.unit.release.test_audit import HELD, World, finished, world
from tests.unit.serving.running import Server
from tests.unit.serving.test_images import model

__all__ = ["finished", "model", "world"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(program() is None, reason="no Chromium is installed"),
]
GROWING = """window.grown = new Set(), window.widest = 0, new MutationObserver(() => {
  grown.add(document.querySelector(".assistant").textContent.length);
  widest = Math.max(widest, document.documentElement.scrollWidth);
}).observe(document.querySelector("#turns"), {subtree: true, childList: true})"""
"""Notes how long the answer is each time that it grows, and how wide the page is then."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[Server]:
    running = Server(model, "--book", f"sqlite:///{model.parent}/book.db", directory=model.parent)
    yield running
    assert running.end() == (0, "")


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.skipif(not POSTGRESQL, reason="no PostgreSQL server is installed"))]
)
def book(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database with three batches and an admin."""
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/desk.db"
        if request.param == "postgresql":
            (tmp_path / "postgresql").mkdir()
            url = stack.enter_context(postgresql(tmp_path / "postgresql"))
        (tmp_path / "guidelines.txt").write_text(GUIDELINES)
        (tmp_path / "password").write_text(PASSWORD)
        known = {"ranks": [1, 2, 3, 4], "sensitive": [False] * 4}
        sea = {"id": "w0", "prompt": "Ask something about the sea, and answer it.", "asks_prompt": True}
        batches = {
            "screening": ("ranking", "screening = true", [question(number, reference=known) for number in (90, 91)]),
            "answers": ("ranking", "overlap = 2", [question(number) for number in range(5)]),
            "writing": ("demonstration", "", [sea]),
        }
        for name, (kind, more, items) in batches.items():
            rows = (one if isinstance(one, dict) else one.model_dump(mode="json", exclude_none=True) for one in items)
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            said = f'name = "{name}"\nkind = "{kind}"\nitems = "{name}.jsonl"\nguidelines = "guidelines.txt"\n{more}\n'
            (tmp_path / f"{name}.toml").write_text(said)
            assert main(["label", str(tmp_path / f"{name}.toml"), "--book", url]) == 0
        assert main(["account", "ann", "--role", "admin", "--password-file", str(tmp_path / "password"), "--book", url]) == 0
        yield url


def test_people_label_attack_judge_and_sign_and_the_book_holds_what_they_keyed(
    chromium: Browser, served: Server, book: str, world: World, tmp_path: Path
) -> None:
    held = world.decide(HELD)
    pictures, settings = tmp_path / "pictures", {"targets": [f"{served.url}#hf"], "answer_tokens": 16, "posts_per_minute": 5000}
    pictures.mkdir()
    with desk_at(book, world.store.storage.url, tmp_path, **settings) as desk, ExitStack() as stack:

        def enters(name: str, password: str = PASSWORD) -> Person:
            return stack.enter_context(person(chromium, desk, name, password, pictures))

        ann = enters("ann")
        pseudonyms = makes_accounts(ann)
        lea, leo, una = enters("lea"), enters("leo"), enters(UNA, ANOTHER)
        una.go("/batches/1")
        assert una.path == "/me", "nobody works who has not agreed"
        una.look("me-long-name")
        for labeler in (lea, leo):
            agrees(labeler)
            screened(labeler)
        admits(ann)
        lea_works(lea)
        leo_works(leo, 4)
        writes(lea)
        eva, eve = enters("eva"), enters("eve")
        attacks(eve)
        judges(eva)
        leo_works(leo, 1)
        overseen(ann)
        signs(enters("rex"), held.version)

    signed = read_answer(world.store.fetch(world.store.built(signature.spec(world.store, "line", held))))
    assert (signed.decision, signed.name, signed.reason) == ("PROMOTE", "rex", "the judge is noisy")
    assert "confirmed role_play: It gives plans" in signed.red_team_findings
    assert main(["label", "--out", str(tmp_path / "out"), "--book", book]) == 0
    holds_what_was_keyed(tmp_path / "out", pseudonyms)


def holds_what_was_keyed(out: Path, pseudonyms: dict[str, str]) -> None:
    """What ``modelyard label --out`` wrote."""
    wanted = {("lea", number) for number in (0, 3, 4)} | {("leo", number) for number in range(5)}
    found = lines(out / "comparisons.jsonl")
    assert {one["id"]: dict(zip(one["completions"], one["ranks"], strict=True)) for one in found} == {
        f"answers-q{number}-{pseudonyms[name]}": of_item(name, number) for name, number in wanted
    }
    (shown,) = lines(out / "demonstrations.jsonl")
    assert (shown["prompt"][0]["content"], shown["completion"]) == ("Why is the sea salt?", "Rivers bring salt.\nIt stays.")
    assert shown["rater"] == pseudonyms["lea"]
    labels = {(one["batch"], one["item"], one["rater"]): one for one in lines(out / "labels.jsonl")}
    assert {rater for *_, rater in labels} == {pseudonyms["lea"], pseudonyms["leo"]}
    skipped, reported = (labels["answers", f"q{number}", pseudonyms["lea"]] for number in (SKIPPED, REPORTED))
    assert (skipped["state"], skipped["reason"]) == ("skipped", "I can't judge this")
    assert (reported["state"], reported["reason"]) == ("reported", "Answer 2 is a threat.")
    half = labels["answers", f"q{HALF}", pseudonyms["lea"]]["answer"]
    assert half["ratings"] == [8 - rank for rank in of_item("lea", HALF).values()]
    assert half["flags"][half["ranks"].index(3)] == [list(FLAGS)[9]]
    assert (half["all_wrong"], half["comment"]) == (True, "half. done & back")
    assert labels["writing", "w0", pseudonyms["lea"]]["grade"] == 6


def png() -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(np.random.default_rng(3).integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_chat_page_streams_hears_opinions_keeps_consent_and_shows_a_model_a_picture(
    chromium: Browser, served: Server, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "seen.png").write_bytes(png())
    book = Book(f"sqlite:///{model.parent}/book.db")
    with chromium.tab() as page:

        def begin() -> None:
            page.go(served.url.removesuffix("/v1"))
            page.until("document.title == 'hf' && !document.querySelector('#attach').hidden")

        def attach() -> None:
            page.choose("#image", tmp_path / "seen.png")
            page.until("document.querySelector('#shown img')?.complete && document.querySelector('#remove').checkVisibility()")

        def send(text: str) -> str:
            page.run(GROWING)
            page.click("#said")
            page.write(text)
            page.press("Enter")
            page.until("document.querySelector('.opinion') && document.querySelector('#stop').hidden")
            assert page.run("grown.size") > 2, "the answer came in one piece"
            assert page.run("widest <= innerWidth"), page.run("widest")
            return page.run("document.querySelector('.assistant').textContent")

        def say(button: str) -> None:
            page.click(f".opinion button:nth-of-type({1 + ['Good', 'Bad', 'Not factual'].index(button)})")
            page.until("document.querySelector('.opinion span').innerText == 'Thank you.'")
            assert page.run("[...document.querySelectorAll('.opinion [aria-pressed=true]')].pop().innerText") == button
            page.run("document.querySelector('.opinion span').innerText = ''")

        begin()
        look(page, tmp_path, "chat-empty")
        first = send("Which is red?")
        assert book.agreed() == []
        page.click("#consent")
        say("Good")
        (kept,) = book.agreed()
        assert ([one.content for one in kept.entry.prompt], kept.entry.reply) == (["Which is red?"], clean(first))
        assert kept.opinions == [Opinion("up", False, "", "")]
        look(page, tmp_path, "chat")
        begin()
        assert page.run("!document.querySelector('#remove').checkVisibility()"), "there is nothing to take off"
        attach()
        page.click("#said")
        page.press("Shift+Tab")
        assert page.run("document.activeElement.ariaLabel") == "Remove the image"
        page.press("Enter")
        assert page.run("!document.querySelector('#shown img') && !document.querySelector('#image').value && attached === ''")
        assert page.run("[document.activeElement.id, document.querySelector('#remove').checkVisibility()]") == ["image", False]
        attach()  # the same file again
        look(page, tmp_path, "chat-attached")
        page.click("#consent")
        page.window(PHONE, 844)
        second = send("Which is blue?")
        say("Not factual")
        _, kept = book.agreed()
        seen = (ImagePart(image=cleaned(png()).id), TextPart(text="Which is blue?"))
        assert ([one.content for one in kept.entry.prompt], kept.entry.reply) == ([seen], clean(second))
        assert kept.opinions == [Opinion("down", True, "", "")]
        assert page.run("document.querySelector('.user img').complete && !document.querySelector('#shown img')")
        look(page, tmp_path, "chat-seen")
        assert page.problems == []
