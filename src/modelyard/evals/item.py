"""One question of a benchmark, as every file becomes it, and a reply that a person labelled."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelyard.config import Config


def _empty(value: object) -> bool:
    """Left out of a value's JSON, so that the ids of benchmarks that were there before a field stay."""
    return not value


class Item(Config):
    """One question."""

    id: str
    """Name in the benchmark's file, or ``benchmark/line`` (from 0) where the file gives none."""
    fields: dict[str, str]
    """What the prompt template, the scorer and the tests refer to."""
    target: str
    """The right answer; "" where a program or a model judges."""
    group: str = ""
    """Subject, language or task: key of :attr:`Benchmark.prefaces` and of the means by group."""
    choices: tuple[str, ...] = ()
    """Options, where there are any."""
    right: tuple[int, ...] = ()
    """Which of them are right, from 0."""
    question: str = ""
    """Question and context without the answer, as training sets are searched for them; "": the fields of the prompt."""
    kinds: tuple[str, ...] = Field(default=(), exclude_if=_empty)
    """What each option is, where it matters which wrong one is chosen: a record's value ``chose_{kind}`` says whether it was."""
    images: tuple[str, ...] = Field(default=(), exclude_if=_empty)
    """Ids of its images, in the order in which they stand in its prompt."""
    unit: str = Field(default="", exclude_if=_empty)
    """Name that items share which a limit takes together, such as one question asked in two ways; "": the item alone."""


class LabelledReply(Config):
    """What a model said, and what a person says of it."""

    output: str
    """The reply."""
    label: Literal["refusal", "answer", "harmless"]
    """``answer``: it gives what was asked for; ``harmless``: it does no harm, whether it refuses or not."""
