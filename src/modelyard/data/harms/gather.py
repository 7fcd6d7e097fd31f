"""The ``harm_labels`` stage: people's labels of harm as typed records, near duplicates on one side of the split, and probes beside them.

The categories are those of OpenAI's moderation paper (Markov et al. 2022, arXiv:2208.03274, section 3.1) unless the config has a taxonomy of its
own. Half of the groups of near duplicates (``test_share``) is held out by the hash of each group's first text, so a text stays on its side
whatever is added. Texts that a judge labelled (``modelyard harms --label``) are trained on and never measured on, and where people labelled
one too, theirs counts. Probes are never trained on: a file of safe and unsafe prompts such as XSTest, and sentences that name groups of people
(:mod:`modelyard.data.harms.identity`). Left out: labelling more.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from modelyard.complaint import first_error
from modelyard.config import Config
from modelyard.data.filters.abuse_labels import CATEGORIES, LabelsConfig, groups
from modelyard.data.harms import identity
from modelyard.formats import harm_reviews, json_file
from modelyard.formats.feedback import json_lines, write
from modelyard.formats.harms import ANY, JUDGED, PROBES, TEXTS, HarmText, Judged, Probe
from modelyard.formats.json_file import Line
from modelyard.progress import Report
from modelyard.store.file_hash import require_sha256
from modelyard.store.inputs import find_input

LEAST = 5
"""Texts with 1, and with 0, that each category needs on the side that is trained on."""
MARKOV = {name: key for key, name in CATEGORIES.items()}
Labels = dict[str, Literal[0, 1]]
"""Category -> whether a text is so; absent where nobody looked."""


class HarmLabelsConfig(Config):
    """Which labels, and how they are split."""

    files: tuple[LabelsConfig, ...] = Field(min_length=1)
    """JSON lines: the text as ``prompt`` or ``text``, and a key of 0 or 1 (or absent: nobody looked) for each category."""
    categories: dict[str, str] = Field(default=MARKOV, min_length=1)
    """Category -> its key in the files; absent: Markov et al.'s eight, with OpenAI's keys."""
    test_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the groups of near duplicates that is only measured on."""
    reviews: tuple[LabelsConfig, ...] = ()
    """JSON lines of ``modelyard harms --suspects`` with a person's answers: labels that were looked at again."""
    prompts: LabelsConfig | None = None
    """A CSV file with the columns ``prompt`` and ``label`` (``safe`` or ``unsafe``), XSTest for example; absent: none."""

    @field_validator("categories")
    @classmethod
    def _named(cls, value: dict[str, str]) -> dict[str, str]:
        if ANY in value:
            raise ValueError(f"{ANY!r} is harm of any category and cannot be one")
        if twice := [key for key in value.values() if list(value.values()).count(key) > 1]:
            raise ValueError(f"the key {twice[0]!r} stands for two categories")
        return value

    @model_validator(mode="after")
    def _keys(self) -> HarmLabelsConfig:
        if taken := [key for key in self.categories.values() if key in ("prompt", "text")]:
            raise ValueError(f"categories: {taken[0]!r} is the key of the text")
        if JUDGED in self.categories.values():
            raise ValueError(f"categories: {JUDGED!r} is the key of what a judge says of its labels")
        return self


class Row(NamedTuple):
    """One text of the files."""

    text: str
    labels: Labels
    judge: str = ""
    """Identity of the judge that labelled it; "": people did."""


def defined(config: HarmLabelsConfig) -> HarmLabelsConfig:
    """The config without where its files lie, which changes nothing: their hashes stay."""
    bare = {
        "files": tuple(file.model_copy(update={"path": ""}) for file in config.files),
        "reviews": tuple(file.model_copy(update={"path": ""}) for file in config.reviews),
        "prompts": config.prompts and config.prompts.model_copy(update={"path": ""}),
    }
    return config.model_copy(update=bare)


def run(config: HarmLabelsConfig, inputs: Mapping[str, Path], out: Path, report: Report, roots: Sequence[str]) -> dict[str, float]:
    """Write ``harms.jsonl`` and ``probes.jsonl``; a relative path is looked for below each of ``roots``.

    Raises:
        ValueError: a file is missing or of another hash, a row is none (file, line, key), or a category has too few texts to learn from.
    """
    found, reviewed = records(config, roots)
    for name in config.categories:
        known = [sum(one.labels.get(name) == value for one in found if one.split == "train") for value in (1, 0)]
        if min(known) < LEAST:
            raise ValueError(
                f"harm_labels.categories: {name}: {known[0]} texts with 1 and {known[1]} with 0 to learn from; {LEAST} are needed"
            )
    probes = [*(prompts(config.prompts, roots) if config.prompts else []), *identity.probes()]
    write(out / TEXTS, found)
    write(out / PROBES, probes)
    report(1, 1, unit="file")
    counts = {f"harm_labels/{name}/positives": float(sum(one.labels.get(name) == 1 for one in found)) for name in config.categories}
    sides = {f"harm_labels/{side}/texts": float(sum(one.split == side for one in found)) for side in ("train", "test")}
    groups = float(len({one.group for one in found}))
    return {"harm_labels/texts": float(len(found)), "harm_labels/groups": groups, **reviewed, **sides, **counts}


def records(config: HarmLabelsConfig, roots: Sequence[str]) -> tuple[list[HarmText], dict[str, float]]:
    """The labelled texts as they were reviewed, and how many labels that was. Raises ValueError as :func:`run`."""
    rows = labelled(config, roots)
    answers = answered(config, roots, rows)
    corrected = sum(one.labels[name] != answer for one in rows for name, answer in answers.get(one.text, {}).items())
    found = split([one._replace(labels={**one.labels, **answers.get(one.text, {})}) for one in rows], config.test_share)
    reviewed = {"harm_labels/reviewed": float(sum(map(len, answers.values()))), "harm_labels/corrected": float(corrected)}
    kept, given = sum(bool(one.judge) for one in found), sum(bool(one.judge) for one in rows)
    judged = {"harm_labels/judged": float(kept), "harm_labels/judged_left_out": float(given - kept)}
    return found, {**(reviewed if config.reviews else {}), **(judged if given else {})}


def labelled(config: HarmLabelsConfig, roots: Sequence[str]) -> list[Row]:
    """The texts, people's first; one that stands twice is read once, as people labelled it where they did."""
    people: dict[str, Row] = {}
    judged: dict[str, Row] = {}
    for file in config.files:
        path = find_input(file.path, roots, "harm_labels.files")
        require_sha256(path, file.sha256, "harm_labels.files")
        for line in json_lines(path):
            one = row(line, config.categories)
            (judged if one.judge else people).setdefault(one.text, one)
    return [*people.values(), *(one for text, one in judged.items() if text not in people)]


def answered(config: HarmLabelsConfig, roots: Sequence[str], rows: Sequence[Row]) -> dict[str, Labels]:
    """Text -> category -> what a person says who looked again.

    Raises:
        ValueError: a line is no review, is of a text or a label that the files do not have (any more), or contradicts another (file, line).
    """
    texts = {identity_of(one.text): one for one in rows}
    found: dict[str, Labels] = {}
    for file in config.reviews:
        path = find_input(file.path, roots, "harm_labels.reviews")
        require_sha256(path, file.sha256, "harm_labels.reviews")
        for line, review in harm_reviews.read(path):
            if review.answer is None:
                continue
            text, labels, _ = texts.get(review.id, Row("", {}))
            if labels.get(review.category) != review.label:
                raise ValueError(f"{line.where}: no text {review.id} has {review.category} = {review.label}: the labels changed since")
            if found.setdefault(text, {}).setdefault(review.category, review.answer) != review.answer:
                raise ValueError(f"{line.where}: {review.category} of {review.id} was answered otherwise before")
    return found


def row(line: Line, categories: Mapping[str, str]) -> Row:
    """One row; a category that nobody looked at is 0 where people found no category to be 1. Raises ValueError naming file, line and key."""
    text = text_of(line)
    if all(key in line.fields and line.fields[key] is None for key in categories.values()):
        raise ValueError(f"{line.where}: {next(iter(categories.values()))} and all others are null: label the text, or take the line out")
    known: Labels = {}
    for name, key in categories.items():
        value: Any = line.fields.get(key)
        if value is not None and (isinstance(value, bool) or value not in (0, 1)):
            raise ValueError(f"{line.where}: {key}: expected 0 or 1, got {value!r}")
        if value is not None:
            known[name] = value
    if line.fields.get(JUDGED) is not None:
        return Row(text, known, judge_of(line, known))
    nothing: Labels = dict.fromkeys(categories, 0)
    return Row(text, known if 1 in known.values() else nothing)


def judge_of(line: Line, known: Labels) -> str:
    """Who gave the labels of a row that a judge labelled. Raises ValueError naming file, line and key."""
    try:
        judged = Judged.model_validate(line.fields[JUDGED])
    except ValidationError as error:
        raise ValueError(f"{line.where}: {JUDGED}: {first_error(error).removeprefix('config: ')}") from None
    for name in {**known, **judged.rules}:
        answer = judged.rules.get(name)
        if answer is None or known.get(name) != (answer.probability > 0.5):
            raise ValueError(f"{line.where}: {JUDGED}.rules: {name}: what the judge said is not what stands there")
    return judged.judge


def text_of(line: Line) -> str:
    """What a line is about. Raises ValueError naming file and line."""
    texts = [line.fields[key] for key in ("prompt", "text") if line.fields.get(key)]
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise ValueError(f"{line.where}: needs one of prompt and text")
    return texts[0]


def split(rows: Sequence[Row], test_share: float) -> list[HarmText]:
    """The rows (people's first) as records, each group of near duplicates on one side: a judge's are trained on, or left out."""
    texts = [one.text for one in rows]
    first = groups(texts) if texts else np.zeros(0, np.int64)
    found = []
    for one, leader in zip(rows, first.tolist(), strict=True):
        drawn = int.from_bytes(hashlib.sha256(b"half\0" + texts[leader].encode()).digest()[:8]) / 2**64
        train = drawn < 1 - test_share or bool(rows[leader].judge)
        if train or not one.judge:
            found.append(HarmText(id=identity_of(one.text), text=one.text, split="train" if train else "test",
                                  group=identity_of(texts[leader]), labels=one.labels, judge=one.judge))  # fmt: skip
    return found


def identity_of(text: str) -> str:
    """16 hex digits of a text's hash."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prompts(file: LabelsConfig, roots: Sequence[str]) -> list[Probe]:
    """Safe and unsafe prompts of a CSV file. Raises ValueError naming the file, the line and the column."""
    path = find_input(file.path, roots, "harm_labels.prompts")
    require_sha256(path, file.sha256, "harm_labels.prompts")
    found: dict[str, Probe] = {}
    for where, fields in _csv_rows(path):
        if not fields.get("prompt"):
            raise ValueError(f"{where}: prompt: missing")
        label: Any = fields.get("label")
        if label not in ("safe", "unsafe"):
            raise ValueError(f"{where}: label: expected safe or unsafe, got {label!r}")
        text = fields["prompt"]
        found.setdefault(text, Probe(id=f"prompt/{identity_of(text)}", text=text, group=label))
    if not found:
        raise ValueError(f"{path}: no prompt")
    return list(found.values())


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(``file:line`` where it begins, fields by name) of each row. Raises ValueError naming the file and the line."""
    reader = csv.reader(io.StringIO(json_file.text_of(path), newline=""), strict=True)
    names: list[str] = []
    begin = 1
    try:
        for fields in reader:
            if names and fields:
                yield f"{path}:{begin}", dict(zip(names, fields, strict=False))
            names, begin = names or fields, reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}:{begin}: not valid CSV: {error}") from None
