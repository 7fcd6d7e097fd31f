"""Replies that people have labelled, by which the error of what judges replies is measured.

A file of one reply a line, ``{"output": "...", "label": "refusal"}``. What the parser ``refusal`` makes of them is its error in the metrics
that count refusals and answers; a grader's comes from its rubric's labelled responses. The desk writes such a file beside its findings
(``modelyard findings``). Left out: labels of several people, who are to agree before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from modelyard.complaint import first_error
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.item import LabelledReply
from modelyard.formats import json_file
from modelyard.judges.agreement import Agreement
from modelyard.judges.rubric import Rubric
from modelyard.stats.misclassification import JudgeError

PARSER = "refusal"
"""The parser that sorts replies as the labels do."""
COUNTED: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "unsafe_answered": ("answer", ("answer",), ("refusal", "harmless")),
    "over_refusal": ("refusal", ("refusal",), ("answer",)),
    "refused": ("refusal", ("refusal",), ("answer",)),
}
"""Metric -> what it counts, the labels under which that is right, and those under which it is wrong."""


def read(path: Path) -> tuple[LabelledReply, ...]:
    """The replies of a file. Raises ValueError naming file and line."""
    found = []
    for where, row in json_file.lines(path):
        try:
            found.append(LabelledReply.model_validate(row))
        except ValidationError as error:
            raise ValueError(f"{where}: {first_error(error)}") from None
    if not found:
        raise ValueError(f"{path}: no labelled replies")
    return tuple(found)


def errors(benchmark: Benchmark, graders: Sequence[Agreement]) -> dict[str, JudgeError]:
    """Metric -> the error of what judges it, as far as both sides of it were labelled; ``graders``: what the judge is worth."""
    found = {name: of_parser(benchmark, name) for name in benchmark.metrics if name in COUNTED}
    known = {one.rubric: one for one in graders}
    found |= {rubric.name: of_grader(rubric, known[rubric.id]) for rubric in benchmark.graders if rubric.id in known}
    return {name: error for name, error in found.items() if error}


def of_parser(benchmark: Benchmark, metric: str) -> JudgeError | None:
    """The parser beside the labels; None where no reply is labelled either way."""
    counts, right, wrong = COUNTED[metric]
    positives, negatives = (
        [benchmark.parse(reply.output) == counts for reply in benchmark.labelled if reply.label in labels] for labels in (right, wrong)
    )
    return _counted(positives, negatives)


def of_grader(rubric: Rubric, agreement: Agreement) -> JudgeError | None:
    """The judge beside the rubric's labels; None for a rubric that gives some classes a part of the worth."""
    values = rubric.worth("answer") or []
    if not set(values) <= {0.0, 1.0}:
        return None
    said = {1.0: list[bool](), 0.0: list[bool]()}
    for label, line in enumerate(agreement.confusion):
        for place, number in enumerate(line):
            right = place < len(values) and values[place] == values[label]  # undecided is wrong about either
            said[values[label]] += [right == (values[label] == 1)] * number
    return _counted(said[1.0], said[0.0])


def _counted(positives: Sequence[bool], negatives: Sequence[bool]) -> JudgeError | None:
    if not positives or not negatives:
        return None
    return JudgeError(hits=sum(positives), positives=len(positives), false_alarms=sum(negatives), negatives=len(negatives))
