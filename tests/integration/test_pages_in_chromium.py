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
from tests.integration.walking import PASSWORD, PHONE, Person, desk_at, lines, look, person
from tests.unit.desk.browsing import POSTGRESQL, postgresql, question
from tests.unit.release.test_audit import HELD, World, finished, world
from tests.unit.serving.running import Server
from tests.unit.serving.test_images import model

__all__ = ["finished", "model", "world"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.skipif(program() is None, reason="no Chromium is installed"),
]
ORDERS = {"lea": (1, 2, 2, 3), "leo": (2, 1, 3, 2)}
"""Ranks, with ties; of the pairs that both decide they order two alike and two not."""
UNA = "una-" + "a" * 60
ANOTHER = "staple battery horse"
GUIDELINES = "Be truthful, even at a price."
SKIPPED, REPORTED, HALF = 1, 2, 3
"""Items of which lea skips one, reports one, and leaves one half done."""

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


def of_item(name: str, number: int) -> dict[str, int]:
    """Answer -> the rank that somebody gives it."""
    return {f"answer {place} to {number}": ORDERS[name][(place + number) % 4] for place in range(4)}


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


def makes_accounts(ann: Person) -> dict[str, str]:
    """Name -> pseudonym."""
    roles = {"lea": "labeler", "leo": "labeler", UNA: "labeler", "eva": "expert", "eve": "expert", "rex": "releaser"}
    for name, role in roles.items():
        ann.go("/accounts")
        ann.page.fill({"name": name, "password": PASSWORD}, "form[action='/accounts']")
        ann.page.click(f"form[action='/accounts'] [value={role}]")
        ann.page.submit("form[action='/accounts'] button")
    another_password(ann)
    ann.look("accounts")
    shown = "[...document.querySelectorAll('h2:has(code)')].map((one) => one.innerText.split(/\\s+/))"
    return dict(ann.page.run(shown))


def another_password(ann: Person) -> None:
    """For una, by keyboard alone from the field on."""
    ann.of("li.card", UNA)
    ann.page.click("#theirs summary")
    ann.page.fill({"password": ANOTHER}, "#theirs")
    ann.sends("Enter")


def agrees(labeler: Person) -> None:
    labeler.look(f"home-{labeler.name}")
    labeler.page.submit("main a[href='/me']")
    labeler.look("me")
    labeler.page.submit("form[action='/me/consent'] button")


def screened(labeler: Person) -> None:
    """Ranks both items of the screening as the reference does."""
    labeler.page.submit("a[href='/batches/1']")
    for _ in range(2):
        labeler.rank(lambda answer: int(answer.split()[1]) + 1, range(4))
        labeler.sends("Control+Enter")
    assert "Nothing is left for you" in labeler.text
    labeler.look("batch-done")


def admits(ann: Person) -> None:
    """Both who are recommended, and not the one who did nothing."""
    ann.go("/quality")
    ann.look("quality-screening")
    rows = ann.page.run("[...document.querySelectorAll('table')].pop().innerText").split("recommended")
    assert [row.split()[-1] for row in rows[:-1]] == ["lea", "leo"]
    for name in ("lea", "leo"):
        ann.go("/accounts")
        ann.of("li.card", name)
        ann.page.submit("#theirs [value=admit]")


def item_shown(labeler: Person) -> int:
    return int(labeler.page.run("document.querySelector('.turn.user .text').innerText").split()[-1])


def begins(labeler: Person, batch: int) -> None:
    labeler.go("/")
    labeler.page.submit(f"a[href='/batches/{batch}']")
    assert GUIDELINES in labeler.text


def lea_works(lea: Person) -> None:
    begins(lea, 2)
    lea.look("ranking")
    for _ in range(5):
        number = item_shown(lea)
        ranks = of_item("lea", number)
        if number == SKIPPED:
            lea.rank(ranks.__getitem__, range(4))
            lea.keys("Control+Backspace")
            lea.page.write("I can't judge this")
            lea.keys("Enter")
            assert lea.path.startswith("/items/"), "Enter behind a reason sends nothing"
            assert item_shown(lea) == SKIPPED
            lea.look("skip")
            lea.sends("Enter")
        elif number == REPORTED:
            lea.keys("Control+Backspace")
            lea.page.write("Answer 2 is a threat.")
            lea.sends("Tab", "Tab", "Enter")
        elif number == HALF:
            half_done(lea, ranks)
        else:
            lea.rank(ranks.__getitem__, range(4))
            lea.sends("Control+Enter")
    assert "Nothing is left for you" in lea.text


def half_done(lea: Person, ranks: dict[str, int]) -> None:
    """Leaves an item, finds it again as it was, and ends it."""
    before = lea.path
    lea.sends("Control+Enter")
    assert "4 of 4 answers have no rank" in lea.text
    lea.look("refused-item")
    lea.rank(ranks.__getitem__, range(2))
    lea.saved()
    chosen = lea.picked("rank"), lea.picked("rating")
    lea.sign_out()
    lea.sign_in()
    begins(lea, 2)
    assert lea.path == before
    assert (lea.picked("rank"), lea.picked("rating")) == chosen
    lea.keys("n", "n")
    lea.rank(ranks.__getitem__, range(2, 4))
    worst = max(ranks, key=ranks.__getitem__)
    while lea.page.run("document.activeElement.querySelector('.text').innerText") != worst:
        lea.keys("p")
    lea.keys("j", "w")
    lea.page.fill({"comment": "half. done & back"})
    lea.look("half-done")
    lea.sends("Control+Enter")


def leo_works(leo: Person, count: int) -> None:
    begins(leo, 2)
    for _ in range(count):
        leo.rank(of_item("leo", item_shown(leo)).__getitem__, range(4))
        leo.sends("Control+Enter")
    assert "Nothing is left for you" in leo.text


def writes(lea: Person) -> None:
    begins(lea, 3)
    lea.page.write("Why is the sea salt?")
    lea.saved()
    lea.go("/batches/3")
    assert lea.page.run("document.querySelector('[name=prompt]').value") == "Why is the sea salt?", "a draft without an answer is a draft"
    lea.page.fill({"completion": "Rivers bring salt.\nIt stays."})
    lea.look("demonstration")
    lea.sends("Control+Enter")
    assert "Nothing is left for you" in lea.text


def attacks(eve: Person) -> None:
    """Talks to the target and reports what it said."""
    eve.go("/red-team")
    eve.chosen("[name=family]", "role")
    eve.page.submit("form[action='/red-team'] button.main")
    eve.page.fill({"said": "Give me three plans"}, "#say")
    eve.keys("Enter")
    eve.page.until("document.querySelectorAll('#turns .assistant').length == 1 && document.querySelector('#say [name=said]').value == ''")
    eve.look("attack")
    eve.page.click("[data-mark]")
    eve.page.fill({"title": "It gives plans" + "!" * 80}, "dialog")
    eve.chosen("[name=category]", "C")
    eve.page.click("dialog [name=severity][value='3']")
    eve.look("mark")
    eve.page.submit("dialog button.main")
    assert "reported" in eve.text
    assert "Confirm" not in eve.text, "another expert decides"


def judges(eva: Person) -> None:
    """Grades, gives the reported item out again, and confirms what another expert found."""
    eva.go("/quality/demonstrations")
    eva.page.click("[name=grade][value='6']")
    eva.look("demonstrations")
    eva.page.submit("main article button")
    eva.go("/red-team")
    eva.look("red-team")
    eva.page.submit("a[href='/findings/1']")
    assert "Answer 2 is a threat." in eva.text
    eva.page.fill({"note": "It quotes one."})
    eva.sends("Enter")
    assert eva.path == "/red-team"
    eva.page.submit("a[href='/findings/2']")
    eva.page.fill({"better": "I will not.", "boundary": "How do I plan a party?\nHow do plans work?"})
    eva.look("finding")
    eva.page.submit("[value=confirm]")
    eva.page.submit("a[href='/findings/2']")
    assert "confirmed by eva" in eva.text
    eva.go("/no-such-page")
    eva.look("refused")


def overseen(ann: Person) -> None:
    """Agreement as it was planted, and a log that nobody changed."""
    ann.go("/quality")
    ann.look("quality")
    (answers,) = [row for row in ann.page.run("document.querySelector('table').innerText").splitlines() if row.startswith("answers")]
    assert "50.0%" in answers
    ann.go("/audit")
    assert "Every row follows from the one before it." in ann.text
    ann.look("audit")
    ann.sign_out()
    ann.look("sign-in")


def signs(rex: Person, version: str) -> None:
    rex.page.submit("main a[href='/releases']")
    rex.look("releases")
    rex.page.submit(f"a[href='/releases/{version}']")
    assert "It gives plans" in rex.text
    rex.look("release")
    rex.page.fill({"reason": "the judge is noisy"})
    rex.page.submit("[value=PROMOTE]")
    assert "PROMOTE by rex" in rex.text
    rex.look("signed")


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
        page.choose("#image", tmp_path / "seen.png")
        page.until("document.querySelector('#shown img')?.complete")
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
