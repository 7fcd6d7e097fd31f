"""Demonstrations that a stronger model wrote, each with who wrote it under which licence and what it was shown: the ``instructions`` artifact.

It is a ``feedback`` artifact with two more files: ``instructions.jsonl`` holds every demonstration that the teacher wrote with its provenance,
``instructions.json`` what was asked, kept and left out. In ``demonstrations.jsonl`` these have the same ids, and the teacher's name as their source.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter

from modelyard.config import Config
from modelyard.formats import feedback, json_file
from modelyard.formats.teacher import Teacher

FILE, RECORD = "instructions.jsonl", "instructions.json"


class TaughtDemonstration(Config):
    """An instruction and its answer."""

    id: str
    """As in ``demonstrations.jsonl``."""
    teacher: Teacher
    """Who wrote both."""
    shown: tuple[str, ...]
    """Ids of the examples that the instruction was asked for with: people's, and earlier ones of the teacher."""
    instruction: str
    completion: str

    @property
    def text(self) -> str:
        """All that it says: what contamination is looked for in."""
        return f"{self.instruction}\n{self.completion}"


class InstructionsRecord(Config):
    """How an ``instructions`` artifact came about."""

    teacher: Teacher
    seeds: int
    """People's instructions that the teacher was shown examples of."""
    requests: int
    """Requests for new instructions."""
    proposed: int
    """Instructions in the replies."""
    kept: int
    """Demonstrations that stayed."""
    people: int
    """People's training demonstrations beside them."""
    left_out: dict[str, int]
    """Reason -> instructions (of ``no_list`` and ``long_request``: replies) that did not stay."""


RECORDS = TypeAdapter(InstructionsRecord)


def write(directory: Path, made: Iterable[TaughtDemonstration], record: InstructionsRecord) -> None:
    """Both files."""
    feedback.write(directory / FILE, made)
    (directory / RECORD).write_text(record.model_dump_json(indent=1) + "\n", "utf-8")


def read(directory: Path) -> list[TaughtDemonstration]:
    """The teacher's demonstrations. Raises ValueError naming file, line and key."""
    return list(feedback.records(directory / FILE, TaughtDemonstration))


def read_record(directory: Path) -> InstructionsRecord:
    """How they came about. Raises ValueError."""
    return json_file.read(directory / RECORD, RECORDS)
