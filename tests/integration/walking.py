"""People with browsers of their own at a desk that runs as a process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.browser import Browser, Page

PASSWORD = "correct horse battery"
PHONE, DESKTOP = 390, 1280
"""Widths of a window, CSS pixels."""
WIDER = """[...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
  .map((one) => one.tagName + "." + one.className).slice(0, 5).join(" ")"""
SAVED = """fetch(location.href).then((answer) => answer.text()).then((text) => {
  const said = (page) => [...page.querySelectorAll("#item :is(input:checked, textarea)")].map((one) => one.name + "=" + one.value).join();
  return said(new DOMParser().parseFromString(text, "text/html")) === said(document);
})"""
TEXT = "document.querySelector('main').innerText.replace(/\\s+/g, ' ')"


@contextmanager
def desk_at(book: str, store: str, place: Path, **settings: object) -> Iterator[str]:
    """Address of ``modelyard desk`` as its users start it. Afterwards it has ended well and complained of nothing."""
    config = place / "desk.toml"
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
    command = [sys.executable, "-m", "modelyard", "desk", "--port", "0", "--book", book, "--store", store, "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place)
    said = process.stdout.readline()
    found = re.match(r"desk at (http://\S+);", said)
    try:
        assert found, said + process.stderr.read()
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")


class Person:
    """Somebody in front of a page."""

    def __init__(self, page: Page, desk: str, name: str, password: str, pictures: Path) -> None:
        self.page, self.desk, self.name, self.password, self.pictures = page, desk, name, password, pictures
        page.window(DESKTOP, 900)
        self.sign_in()

    def sign_in(self) -> None:
        self.go("/sign-in")
        self.page.fill({"name": self.name, "password": self.password})
        self.sends("Enter")
        assert f"Good day, {self.name}" in self.text

    def sign_out(self) -> None:
        self.page.submit("form[action='/sign-out'] button")
        assert self.path == "/sign-in"

    def go(self, path: str) -> None:
        self.page.go(self.desk + path)

    @property
    def path(self) -> str:
        return self.page.run("location.pathname")

    @property
    def text(self) -> str:
        return self.page.run(TEXT)

    def look(self, name: str) -> None:
        """At the page as it is, on a phone and on a desk, by day and by night."""
        look(self.page, self.pictures, name)

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.page.press(key)

    def sends(self, *keys: str) -> None:
        """Press keys of which the last leads to another page."""
        self.keys(*keys[:-1])
        with self.page.loading():
            self.keys(keys[-1])

    def of(self, cards: str, name: str) -> None:
        """Give the card of somebody the id ``theirs``."""
        self.page.run(f"[...document.querySelectorAll('{cards}')].find((one) => one.innerText.startsWith('{name}')).id = 'theirs'")

    def rank(self, rank_of: Callable[[str], int], places: range) -> None:
        """Rank and mark answers, from the one that has the focus on, by keyboard."""
        for place in places:
            answer = self.page.run("document.activeElement.querySelector('.text').innerText")
            assert self.page.run("Number(document.activeElement.dataset.place)") == place
            self.keys(str(rank_of(answer)), f"Alt+{8 - rank_of(answer)}", "n" if place % 2 else "ArrowDown")

    def saved(self) -> None:
        """Wait until the desk would show the item as it is on the page, and the page says that it was saved."""
        self.page.until(SAVED)
        self.page.until("/Saved \\d+:\\d+:\\d+/.test(document.querySelector('#saved').innerText)")

    def picked(self, name: str) -> list[str | None]:
        """What is chosen of every answer."""
        return self.page.run(
            f"[...document.querySelectorAll('.answer')].map((one, place) => one.querySelector(`[name='{name}-${{place}}']:checked`)?.value)"
        )

    def chosen(self, select: str, letter: str) -> None:
        """Choose an option by the letter with which it begins."""
        self.page.run(f"document.querySelector('{select}').focus()")
        self.keys(letter)


def look(page: Page, pictures: Path, name: str) -> None:
    """Pictures of a page in phone width, light and dark, and wide. Asserts that nothing is wider than the window."""
    for width, scheme in ((PHONE, "light"), (PHONE, "dark"), (DESKTOP, "light")):
        page.window(width, 844, scheme)
        found = page.run("document.documentElement.scrollWidth")
        height = page.run("document.documentElement.scrollHeight")
        page.window(width, max(844, height), scheme)
        page.picture(pictures / f"{name}-{width}-{scheme}.png")
        assert found <= page.run("innerWidth") == width, f"{name}: {found} of {width} pixels: {page.run(WIDER)}"
    page.window(DESKTOP, 900)


@contextmanager
def person(browser: Browser, desk: str, name: str, password: str, pictures: Path) -> Iterator[Person]:
    """Somebody who has signed in. Afterwards no script has thrown and no policy was broken on their pages."""
    with browser.tab() as page:
        yield Person(page, desk, name, password, pictures)
        assert page.problems == []


def lines(file: Path) -> list[Mapping]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
