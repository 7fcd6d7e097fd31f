"""What the card says of demonstrations that a stronger model wrote: who, under which licence, how many beside people's, and what was left out.

All of it is the ``instructions`` artifact's own record. Left out: the demonstrations themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from modelyard.formats import instructions


class Taught(NamedTuple):
    """The card's section."""

    facts: list[tuple[str, str]]
    left_out: list[tuple[str, str]]
    """Reason, and how many."""


def taught(inputs: Mapping[str, Path]) -> Taught | None:
    """The section from the decision stage's ``inputs``; None where nobody taught."""
    if "instructions" not in inputs:
        return None
    record = instructions.read_record(inputs["instructions"])
    facts = [
        ("Teacher", record.teacher.name),
        ("Identity", record.teacher.identity),
        ("Licence", record.teacher.licence),
        ("Demonstrations", f"{record.kept:,} of the teacher, {record.people:,} of people"),
        (
            "Asked",
            f"{record.proposed:,} instructions in reply to {record.requests:,} requests, by the example of {record.seeds:,} of people",
        ),
    ]
    return Taught(facts, [(reason.replace("_", " "), f"{count:,}") for reason, count in record.left_out.items()])
