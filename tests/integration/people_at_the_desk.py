"""What each person does at the desk in :mod:`tests.integration.test_pages_in_chromium`, page by page."""

from __future__ import annotations

from tests.integration.walking import PASSWORD, Person

ORDERS = {"lea": (1, 2, 2, 3), "leo": (2, 1, 3, 2)}
"""Ranks, with ties; of the pairs that both decide they order two alike and two not."""
UNA = "una-" + "a" * 60
ANOTHER = "staple battery horse"
GUIDELINES = "Be truthful, even at a price."
SKIPPED, REPORTED, HALF = 1, 2, 3
"""Items of which lea skips one, reports one, and leaves one half done."""


def of_item(name: str, number: int) -> dict[str, int]:
    """Answer -> the rank that somebody gives it."""
    return {f"answer {place} to {number}": ORDERS[name][(place + number) % 4] for place in range(4)}


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
    eve.chosen("[name=family]", "r")
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
