"""What stages that ask a judge leave on their record: which of its answers were used, and what was set aside with which reason.

A rubric (or a way of asking) whose judge agrees too little with people's labels is not used, and that is never silent: the reason stands in the
artifact and on the card. Left out: what the judge answered; that is in the records that were made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from modelyard.config import Config
from modelyard.formats import json_file
from modelyard.judges.agreement import Agreement

FILE, GRADERS = "ai_feedback.json", "graders.json"
AGREEMENTS = TypeAdapter(tuple[Agreement, ...])


class SetAside(Config):
    """Something the config asks for that was not done."""

    what: str
    """A rubric's id, after what it was to be used for."""
    reason: str
    """Why, in a clause."""


class Count(Config):
    """Comparisons of one split from one source."""

    split: str
    source: str
    ranked_by: str
    """``people`` or ``judge``."""
    comparisons: int
    pairs: int
    """Pairs without a tie."""


class AIFeedbackRecord(Config):
    """How the comparisons of an ``ai_feedback`` artifact came about."""

    counts: tuple[Count, ...]
    """By split and source."""
    agreement: tuple[Agreement, ...]
    """Judges beside people's labels, those set aside included."""
    set_aside: tuple[SetAside, ...]
    """What was not used, each with the reason."""


def below(agreement: Agreement, bound: float) -> str:
    """The reason for setting a judge's rubric aside: its kappa is below ``bound``."""
    return (
        f"judge {agreement.judge} agrees with {agreement.accuracy:.0%} of {agreement.n} labels, kappa {agreement.kappa:.2f} "
        f"[{agreement.kappa_low:.2f}, {agreement.kappa_high:.2f}] below min_kappa {bound:g}"
    )


def write(directory: Path, record: AIFeedbackRecord) -> None:
    """``ai_feedback.json``."""
    (directory / FILE).write_text(record.model_dump_json(indent=1) + "\n", "utf-8")


def read(directory: Path) -> AIFeedbackRecord | None:
    """The record of an ``ai_feedback`` artifact; None where there is none."""
    path = directory / FILE
    return AIFeedbackRecord.model_validate_json(path.read_text("utf-8")) if path.is_file() else None


def write_graders(directory: Path, agreements: Sequence[Agreement]) -> None:
    """``graders.json`` of results: what the judge is worth that graded replies."""
    (directory / GRADERS).write_bytes(AGREEMENTS.dump_json(tuple(agreements), indent=1))


def read_graders(directory: Path) -> tuple[Agreement, ...]:
    """:func:`write_graders`'s; empty where nothing was graded."""
    path = directory / GRADERS
    return json_file.read(path, AGREEMENTS) if path.is_file() else ()
