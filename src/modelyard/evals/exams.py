"""Exams: sections of questions become a score, the score a range of percentiles (GPT-4 report, table 1 and appendix A).

An exam is a directory: ``exam.toml`` with its sections and tables, and one JSONL of questions a section. Each section's share of right answers is
scaled to its points, the points are rounded to a row of the score table, and the row gives the published percentile range, of which the report
states the lower end too. ``modelyard eval MODEL --benchmark exam --data EXAM_DIR`` runs one. Sections of choices are
``{section}.jsonl`` with question, choices and answer, asked by likelihood or as the report asks: after solved questions with their explanations
(``{section}.examples.jsonl``), an explanation sampled at temperature 0.3 and then the letter at 0. Sections of free response, with question and
``criteria`` for full credit, are sampled at temperature 0.6 and graded by a judge with the exam's rubric, as the report's are by people. What the
judge's grades are off by on labelled responses stands beside the result. No tables are shipped: they belong to the boards
that publish them. Left out: images in questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from modelyard.config import Config, load_config
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog.choice import lettered_item, lettered_question, scored
from modelyard.evals.catalog.options import option_rows
from modelyard.evals.catalog.rows import find, lines_of, taken, text
from modelyard.evals.item import Item
from modelyard.evals.metrics import by_item
from modelyard.evals.reviewed import credit_error, graded_by
from modelyard.evals.ways import CLOSING, THINK, asked
from modelyard.formats.records import Record
from modelyard.judges.agreement import Agreement
from modelyard.judges.rubric import NamedRubric
from modelyard.model.asked import Decoding

TEMPERATURE, EXPLAINED_AT = 0.6, 0.3
"""Of free responses, and of explanations (GPT-4 report, appendix A.2 and A.5)."""
HEADER = "The following are multiple choice questions (with answers).\n\n"


class Section(Config):
    """A part of an exam."""

    name: str
    """Of the part and of its file."""
    kind: Literal["choices", "free_response"] = "choices"
    """How it is asked and graded."""
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
    shots: int = Field(default=0, ge=0)
    """Solved questions of ``{section}.examples.jsonl`` that stand before each of choices, with their ``explanation`` where those are asked for."""
    explain: bool = False
    """Whether an explanation is drawn before the letter; else the likeliest letter is taken."""
    grader: NamedRubric | None = None
    """Rubric of free responses, a file beside ``exam.toml``; what its classes are worth for an answer is the share of credit."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Longest free response."""
    samples: int = Field(default=1, ge=1)
    """Free responses a question, whose credit is averaged."""

    @model_validator(mode="after")
    def _rising(self) -> Exam:
        if any(a.least >= b.least or a.percentile_low > b.percentile_low for a, b in zip(self.table, self.table[1:], strict=False)):
            raise ValueError("table: rows must rise in least and in percentile_low")
        for row in self.table:
            if row.percentile_low > row.percentile_high:
                raise ValueError(f"table: score {row.score!r} has percentile_low above percentile_high")
        free = [section.name for section in self.sections if section.kind == "free_response"]
        if bool(free) != bool(self.grader):
            raise ValueError(f"grader: the rubric of sections of free response, of which there are {len(free)}")
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


def benchmarks_of(exam: Exam, directory: Path) -> list[Benchmark]:
    """Sections of choices as one benchmark of letters, of free response as one that is graded; a section is a group.

    Raises:
        ValueError: a section's file is missing or broken.
    """
    chosen = [section.name for section in exam.sections if section.kind == "choices"]
    free = [section.name for section in exam.sections if section.kind == "free_response"]
    made = [of_choices(exam, chosen, directory)] if chosen else []
    return [*made, of_free_response(exam, free, directory)] if free else made


def of_choices(exam: Exam, sections: Sequence[str], directory: Path) -> Benchmark:
    """Letters by likelihood, or behind an explanation."""
    items = tuple(
        lettered_item(f"{exam.name}/{section}/{line}", row).model_copy(update={"group": section, "question": ""})
        for section in sections
        for line, row in enumerate(option_rows(lines_of(find(directory, f"{section}.jsonl")), lettered=True))
    )
    prefaces = {section: HEADER + solved(exam, section, directory) for section in sections}
    made = scored(f"exam_{exam.name}", items, "{question}", "acc", prefaces)
    if not exam.explain:
        return made
    made = asked(made, "letter", None, explain=True)
    return made.model_copy(update={"decoding": made.decoding.model_copy(update={"temperature": EXPLAINED_AT})})


def solved(exam: Exam, section: str, directory: Path) -> str:
    """The section's solved questions, with what each answer follows from where explanations are asked for."""
    if not exam.shots:
        return ""
    path = find(directory, f"{section}.examples.jsonl")
    lines = taken(lines_of(path), exam.shots, str(path))
    found = ""
    for line, row in zip(lines, option_rows(lines, lettered=True), strict=True):
        reason = f"{THINK} {text(line, 'explanation').strip()}{CLOSING} " if exam.explain else ""
        found += f"{lettered_question(row)} {reason}{row.letter}\n\n"
    return found


def of_free_response(exam: Exam, sections: Sequence[str], directory: Path) -> Benchmark:
    """Answers in the model's own words, graded."""
    items = tuple(
        Item(
            id=f"{exam.name}/{section}/{place}",
            fields={"question": text(line, "question").strip(), "criteria": text(line, "criteria").strip()},
            target="",
            group=section,
        )
        for section in sections
        for place, line in enumerate(lines_of(find(directory, f"{section}.jsonl")))
    )
    assert exam.grader
    graded = Benchmark(
        name=f"exam_{exam.name}_free_response",
        items=items,
        prompt="{question}",
        decoding=Decoding(max_new_tokens=exam.max_new_tokens, temperature=TEMPERATURE, samples=exam.samples, seed=0),
        parser="whole",
        scorer="graded",
        metrics=("parsed",),
        method="graded",
        chat=True,
        closing="{question}\n\nFull credit needs: {criteria}",
    )
    return graded_by(graded, [exam.grader])


def grade_records(exam: Exam, records: Sequence[Record]) -> Result:
    """:func:`grade` of the records of :func:`benchmarks_of`; samples of a question are averaged."""
    items = by_item(records)
    scores = {section.name: [mean_score(line) for line in items if line[0].group == section.name] for section in exam.sections}
    return grade(exam, scores)


def mean_score(samples: Sequence[Record]) -> float:
    """Of one question."""
    return sum(r.score for r in samples) / len(samples)


def grading_error(exam: Exam, agreement: Agreement) -> str:
    """What the judge's grades are off by on labelled responses, as credit and as points of this exam."""
    assert exam.grader
    off, absolute = credit_error(exam.grader, agreement)
    points = sum(section.points for section in exam.sections if section.kind == "free_response")
    return (
        f"graded by {agreement.judge}, whose credit on {agreement.n} labelled responses is off by {absolute:.2f} of 1 each and {off:+.2f} on "
        f"average: {off * points:+.1f} of the {points:g} points of free response; kappa {agreement.kappa:.2f} "
        f"[{agreement.kappa_low:.2f}, {agreement.kappa_high:.2f}]"
    )


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
