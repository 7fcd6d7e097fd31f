"""Exams: sections of questions become a score, the score a range of percentiles (GPT-4 report, table 1 and appendix A).

An exam is a directory: ``exam.toml`` with its sections and tables, and one JSONL of questions a section. Each section's share of right answers is
scaled to its points, the points are rounded to a row of the score table, and the row gives the published percentile range, of which the report
states the lower end too. ``modelyard eval MODEL --benchmark exam --data EXAM_DIR``
runs one whose sections are multiple choice (``{section}.jsonl``: question, choices, answer). No tables are
shipped: they belong to the boards that publish them. Left out: essays graded by people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, model_validator

from modelyard.config import Config, load_config
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog.choice import lettered_item, scored
from modelyard.evals.catalog.options import option_rows
from modelyard.evals.catalog.rows import find, lines_of
from modelyard.formats.records import Record


class Section(Config):
    """A part of an exam."""

    name: str
    """multiple_choice, free_response..."""
    points: float = Field(gt=0)
    """Most points."""
    penalty: float = Field(default=0.0, ge=0)
    """Points of one question taken off for each wrong answer (a quarter in older SATs)."""


class ScoreRow(Config):
    """A line of the published table."""

    least: float
    """Fewest raw points of this score."""
    score: str
    """What is reported: ``5``, ``163``, ``A``."""
    percentile_low: float = Field(ge=0, le=100)
    """Share of takers below the score, at least."""
    percentile_high: float = Field(ge=0, le=100)
    """At most."""


class Exam(Config):
    """Sections and the table from raw points to score and percentile."""

    name: str
    """Of the exam."""
    sections: tuple[Section, ...] = Field(min_length=1)
    """Its parts."""
    table: tuple[ScoreRow, ...] = Field(min_length=1)
    """Rising in ``least``, the first row at the lowest possible points."""

    @model_validator(mode="after")
    def _rising(self) -> Exam:
        if any(a.least >= b.least or a.percentile_low > b.percentile_low for a, b in zip(self.table, self.table[1:], strict=False)):
            raise ValueError("table: rows must rise in least and in percentile_low")
        for row in self.table:
            if row.percentile_low > row.percentile_high:
                raise ValueError(f"table: score {row.score!r} has percentile_low above percentile_high")
        return self


class Result(NamedTuple):
    """What an exam says of a model."""

    points: float
    score: str
    percentile_low: float
    percentile_high: float


def load(directory: Path) -> Exam:
    """The exam at ``directory``. Raises ConfigError naming file and key."""
    return load_config(Exam, directory / "exam.toml")


def benchmark_of(exam: Exam, directory: Path) -> Benchmark:
    """All sections as one benchmark of letters, a section a group. Raises ValueError for a missing or broken file."""
    items = tuple(
        lettered_item(f"{exam.name}/{section.name}/{line}", row).model_copy(update={"group": section.name, "question": ""})
        for section in exam.sections
        for line, row in enumerate(option_rows(lines_of(find(directory, f"{section.name}.jsonl")), lettered=True))
    )
    header = "The following are multiple choice questions (with answers).\n\n"
    return scored(f"exam_{exam.name}", items, "{question}", "acc", {section.name: header for section in exam.sections})


def grade_records(exam: Exam, records: Sequence[Record]) -> Result:
    """:func:`grade` of the records of :func:`benchmark_of`."""
    return grade(exam, {section.name: [r.score for r in records if r.group == section.name] for section in exam.sections})


def grade(exam: Exam, scores: Mapping[str, Sequence[float]]) -> Result:
    """``scores``: section -> score of each question in [0, 1].

    Raises:
        ValueError: a section has no scores, is not the exam's, or the points fall under the table.
    """
    if set(scores) != {section.name for section in exam.sections}:
        raise ValueError(f"{exam.name}: scores of {sorted(scores)}, the exam has {[section.name for section in exam.sections]}")
    points = 0.0
    for section in exam.sections:
        own = scores[section.name]
        if not own:
            raise ValueError(f"{exam.name}: section {section.name} has no questions")
        worth = section.points / len(own)
        points += sum(worth * score - (section.penalty * worth if score == 0 else 0.0) for score in own)
    reached = [row for row in exam.table if row.least <= points]
    if not reached:
        raise ValueError(f"{exam.name}: {points:g} points are under the table's lowest, {exam.table[0].least:g}")
    return Result(points, reached[-1].score, reached[-1].percentile_low, reached[-1].percentile_high)
