"""What the summary of training content is made of: numbered sections of questions with their answers, and the sources that they list."""

from __future__ import annotations

from typing import NamedTuple

from modelyard.release.training_content import KEY, Kind


class Answer(NamedTuple):
    """One question of the template."""

    question: str
    said: str
    """"" where it is a blank."""
    key: str = ""
    """Key of the config that fills the blank."""


class Source(NamedTuple):
    """One source as the summary lists it."""

    name: str
    kind: Kind | None
    what: str
    link: str
    licence: str
    size: str
    collected: str


class Section(NamedTuple):
    """A numbered part of the template."""

    number: str
    title: str
    answers: tuple[Answer, ...]
    sources: tuple[Source, ...] = ()


def said(question: str, value: object, key: str) -> Answer:
    """A person's answer, or its blank."""
    text = {None: "", True: "Yes", False: "No"}.get(value, value) if isinstance(value, (bool, type(None))) else value
    return Answer(question, str(text), f"{KEY}.{key}")
