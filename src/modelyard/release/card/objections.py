"""What the card shows of the items by which a benchmark made a gate HOLD or BLOCK: what was asked, what was expected, what was answered.

Texts are of others: they are shown as text, cut in the middle where they are long. Images are those of the ``benchmarks`` artifact, which also
has the questions without a prompt's examples; without it the prompt of the record stands. Left out: items that count tokens, which have no text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.complaint import shortened
from modelyard.formats.images import data_url
from modelyard.formats.questions import Question, read_questions
from modelyard.formats.records import score_of
from modelyard.formats.results import Results, Rows, read_results
from modelyard.formats.stored_images import ImageFiles
from modelyard.release.gates.gate import Decision, Objection

LONGEST = 400
"""Characters of a text."""
PICTURES = 4
"""Images of an item."""
CALLED = {"policy": "this release", "sft": "the SFT model", "base": "the base model", "no_vision": "its twin that saw no image"}


class Answer(NamedTuple):
    """What one model says."""

    who: str
    text: str
    score: str
    """As the gate counts it; "" where the record has none."""


class Asked(NamedTuple):
    """An item."""

    item: str
    question: str
    images: tuple[str, ...]
    """Data URLs."""
    target: str
    answers: list[Answer]


class Against(NamedTuple):
    """What a benchmark has against the release."""

    gate: str
    verdict: str
    said: str
    """Benchmark and how many items."""
    items: list[Asked]


class Sources(NamedTuple):
    """Where questions, images and answers are found."""

    answers: Mapping[str, Mapping[str, Rows]]
    """Model, or ``production`` -> benchmark -> records."""
    questions: Mapping[str, Mapping[str, Question]]
    """Benchmark -> item -> question."""
    images: ImageFiles | None


def objections(decision: Decision, results: Results, inputs: Mapping[str, Path]) -> list[Against]:
    """Every objection of every gate that does not promote, with its first items; ``inputs`` are the decision stage's."""
    speaking = [(gate, one) for gate in decision.gates if gate.verdict != "PROMOTE" for one in gate.objections]
    if not speaking:
        return []
    sources = read_sources(results, inputs)
    blank = {name for name, measured in results.benchmarks.items() if measured.images == "blank"}
    return [
        Against(gate.name, gate.verdict, heading(one), [asked(one, item, sources, one.benchmark not in blank) for item in one.items])
        for gate, one in speaking
    ]


def read_sources(results: Results, inputs: Mapping[str, Path]) -> Sources:
    """The records of all models, and what the line's benchmarks hold where they are among the inputs."""
    answers = dict(results.records)
    if "baseline" in inputs:
        answers["production"] = read_results(inputs["baseline"]).of("policy")
    if "benchmarks" not in inputs:
        return Sources(answers, {}, None)
    questions = {name: {one.id: one for one in some} for name, some in read_questions(inputs["benchmarks"]).items()}
    return Sources(answers, questions, ImageFiles(inputs["benchmarks"]))


def heading(one: Objection) -> str:
    """``arc_easy: 7 items lost against production``."""
    shown = f", the first {len(one.items)} here" if len(one.items) < one.n else ""
    how = f"lost against {CALLED.get(one.against, one.against)}" if one.lost else f"failed by {one.metric}"
    return f"{one.benchmark.replace('_', ' ')}: {one.n} item{'s' if one.n > 1 else ''} {how}{shown}"


def asked(one: Objection, item: str, sources: Sources, pictures: bool) -> Asked:
    """An item with what the release, who it is held against and production say of it."""
    rows = {model: row for model in dict.fromkeys(("policy", one.against, "production")) for row in said(one, item, model, sources)}
    own = rows.get("policy", {})
    question = sources.questions.get(one.benchmark, {}).get(item)
    images: list[str] = []
    if question and sources.images and pictures:
        images = [data_url(sources.images.row(image).png) for image in question.images[:PICTURES] if image in sources.images]
    answers = [Answer(CALLED.get(model, model), cut(answer_of(row)), score(row, one.metric)) for model, row in rows.items()]
    return Asked(item, cut(question.text if question else own.get("prompt", "")), tuple(images), cut(own.get("target", "")), answers)


def said(one: Objection, item: str, model: str, sources: Sources) -> Iterator[Mapping[str, Any]]:
    """A model's record of the item, of several outputs the worst of the release and the best of any other; none where it was asked something else."""
    mine = sources.answers.get("policy", {}).get(one.benchmark, ())
    asked_as = {row.get("benchmark_id") for row in mine}
    rows = [row for row in sources.answers.get(model, {}).get(one.benchmark, ()) if str(row["item"]) == item]
    rows = [row for row in rows if row.get("benchmark_id") in asked_as]
    if rows:
        yield (min if model == "policy" else max)(rows, key=lambda row: counted(row, one.metric))


def counted(row: Mapping[str, Any], metric: str) -> float:
    """The value by which the gate counts a record."""
    return float(row.get("values", {}).get(metric, score_of(row)))


def score(row: Mapping[str, Any], metric: str) -> str:
    """The same for people."""
    return f"{counted(row, metric):.3g}"


def answer_of(row: Mapping[str, Any]) -> str:
    """What a record says; of a choice by length only its number is kept."""
    values, picked = row.get("values", {}), row.get("choice_normalised", -1)
    by_length = "acc_norm" in values and row["score"] == values["acc_norm"] != values.get("acc")
    return f"option {picked + 1}" if by_length and picked >= 0 else str(row.get("output", "")).strip()


def cut(text: str) -> str:
    """``text`` as long as a reader of a card wants it."""
    return shortened(text.strip(), LONGEST)
