"""A judge's answers, kept in a file while it is asked: a run that was killed asks only what is left.

One JSON object a line: a hash of judge, question and what its bias is measured on, and the probability of every option. Left out: several
processes at one file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from modelyard.config import Config, digest
from modelyard.formats import json_file
from modelyard.formats.feedback import record
from modelyard.judges.judge import Judge, Question
from modelyard.progress import Report, silent

TOGETHER = 32
"""Questions between two writes."""


class Answer(Config):
    """One line."""

    key: str
    p: list[float]


class Answers:
    """What was said before, and what is said now. Raises ValueError naming file and line where the file is no such file."""

    def __init__(self, path: Path) -> None:
        """``path`` need not be there; a line that was not written to its end is dropped."""
        self.path, self._said = path, dict[str, list[float]]()
        if path.is_file():
            whole, _, cut = path.read_bytes().rpartition(b"\n")
            if cut:
                path.write_bytes(whole + b"\n" if whole else b"")
            self._said = {one.key: one.p for one in (record(Answer, line) for line in json_file.lines(path))}

    def choose(
        self, judge: Judge, questions: Sequence[Question], neutral: tuple[Question, ...], report: Report = silent
    ) -> list[list[float]]:
        """As :meth:`Judge.choose`: [questions][options]."""
        keys = [digest([judge.identity, question, neutral]) for question in questions]
        left = {key: question for key, question in zip(keys, questions, strict=True) if key not in self._said}
        some = list(left.items())
        for start in range(0, len(some), TOGETHER):
            asked = some[start : start + TOGETHER]
            found = judge.choose([question for _, question in asked], neutral)
            new = {key: p for (key, _), p in zip(asked, found, strict=True)}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"key": key, "p": p}) + "\n" for key, p in new.items())
            self._said |= new
            report(min(start + TOGETHER, len(some)), len(some), unit="question")
        return [self._said[key] for key in keys]

    def remove(self) -> None:
        """The file, once what is made of the answers is written."""
        self.path.unlink(missing_ok=True)
