"""What the card shows of a release that is shown images: the first items of every benchmark with images, what it says and what its twin says.

Pictures stand in the page as data URLs; questions and answers are text, whatever they spell. Left out: choosing items by whether they were answered.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from modelyard.formats.results import read_shown
from modelyard.release.gates.vision import TWIN

ASKED = ("policy", TWIN)


class Answer(NamedTuple):
    """What one model says."""

    who: str
    text: str
    right: bool


class Picture(NamedTuple):
    """An item with its images."""

    item: str
    images: tuple[str, ...]
    """Data URLs."""
    question: str
    choices: str
    """The options, where there are any."""
    target: str
    answers: list[Answer]


def seen(results: Path) -> dict[str, list[Picture]]:
    """Benchmark -> items, of a results artifact; empty for a model that reads text alone."""
    found: dict[str, list[Picture]] = {}
    for one in read_shown(results):
        answers = [Answer(name, one.replies[name].said, one.replies[name].score > 0) for name in ASKED if name in one.replies]
        picture = Picture(one.item, one.images, one.question, ", ".join(one.choices), one.target, answers)
        found.setdefault(one.benchmark.replace("_", " "), []).append(picture)
    return found
