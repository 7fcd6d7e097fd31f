"""A judge's answers, kept in a journal while it is asked: a run that was killed asks only what is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelyard.config import digest
from modelyard.formats.journal import Journal
from modelyard.judges.judge import Judge, Question
from modelyard.progress import Report, silent

TOGETHER = 32
"""Questions between two writes."""


class Answers:
    """What was said before, and what is said now: the probability of every option, by judge, question and what its bias is measured on."""

    def __init__(self, path: Path) -> None:
        """``path`` need not be there. Raises ValueError naming file and line where the file is no such journal."""
        self.journal = Journal(path, list[float])

    def choose(
        self, judge: Judge, questions: Sequence[Question], neutral: tuple[Question, ...], report: Report = silent
    ) -> list[list[float]]:
        """As :meth:`Judge.choose`: [questions][options]."""
        keys = [digest([judge.identity, question, neutral]) for question in questions]
        left = list({key: question for key, question in zip(keys, questions, strict=True) if key not in self.journal}.items())
        for start in range(0, len(left), TOGETHER):
            asked = dict(left[start : start + TOGETHER])
            self.journal.add(dict(zip(asked, judge.choose(list(asked.values()), neutral), strict=True)))
            report(min(start + TOGETHER, len(left)), len(left), unit="question")
        return [self.journal[key] for key in keys]

    def remove(self) -> None:
        """The journal, once what is made of the answers is written."""
        self.journal.remove()
