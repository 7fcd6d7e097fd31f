"""What training sets are searched for: the questions of every benchmark, one JSON object an item.

The ``benchmarks`` artifact holds ``questions/{benchmark}.jsonl``; the contamination check reads them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from modelyard.config import Config
from modelyard.formats import benchmark_files

FOLDER = "questions"


class Question(Config):
    """One item."""

    id: str
    """The item's id in the benchmark's records."""
    text: str
    """Question and context, without the answer."""
    images: tuple[str, ...] = Field(default=(), exclude_if=lambda images: not images)
    """Ids of the images that it is about, in ``images/`` of the same artifact."""


def write_questions(directory: Path, benchmark: str, questions: Iterable[Question]) -> None:
    """The questions of one benchmark."""
    benchmark_files.write(directory / FOLDER, benchmark, questions)


def read_questions(directory: Path) -> dict[str, list[Question]]:
    """Benchmark -> its questions. Raises ValueError naming the file and line that is none."""
    return benchmark_files.read(directory / FOLDER, Question)
