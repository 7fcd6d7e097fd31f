"""A user's own benchmark: one TOML table that says where the items are, how they are asked and how they are scored.

With ``choices`` the likeliest option is taken, without them text is generated, parsed and compared. ``{column}`` in the
prompt is a column of the file; ``fields`` gives columns other names. The file is JSON lines, CSV or Parquet, or a pattern
with ``*`` of several, so that most sets of the Hub are a table and no program (``configs/evals/limitations.toml``). With ``images``
items are asked about images, as ScienceQA's, AI2D's, ChartQA's and MMMU's are (``configs/evals/images.toml``).
Left out: what needs a program to build (a function of :mod:`modelyard.evals.catalog`).
"""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from modelyard.closest import did_you_mean
from modelyard.config import Config
from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark
from modelyard.evals.catalog.options import place
from modelyard.evals.catalog.rows import MissingDataError, lines_of, published, taken
from modelyard.evals.image_places import IMAGE, PLACE, placed
from modelyard.evals.item import Item
from modelyard.evals.item_images import images_of
from modelyard.evals.scorers import PARSERS, SCORERS
from modelyard.formats.images import Image
from modelyard.formats.json_file import Line
from modelyard.model.asked import Decoding
from modelyard.store.file_hash import require_sha256
from modelyard.store.inputs import find_input, inputs_directory

OUTPUT = 32
"""Longest output where nothing is said, tokens."""


class OwnSet(Config):
    """Where the items of a user's own benchmark are and how they are asked; all of it is without meaning beside a name
    of the catalog."""

    file: str = ""
    """JSON lines, CSV or Parquet with one item a row, or a pattern with ``*`` of such files, beside the config or below
    ``execution.inputs``."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Of the (one) file; another content stops the run. "": any (its content is part of the benchmark's id)."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Name in the prompt -> column, where they differ."""
    prompt: str = "{question}"
    """``str.format`` template over the columns."""
    answer: str = "answer"
    """Column with the right answer: a text or a list of texts any of which is right; with ``choices`` the right option's
    place from 0, its letter, its text, or a list of places."""
    values: dict[str, str] = Field(default_factory=dict)
    """What is written for an answer in the file -> what it is called here (``hateful`` -> ``yes``)."""
    images: str | tuple[str, ...] = ""
    """Column with the item's image, or several: a path beside the file, a data URL, bytes (as Parquet of the Hub holds them) or a list of any
    of these. ``{image}`` in the prompt is where they stand; in fields ``<image 1>`` (MMMU) is where that one stands."""
    choices: str | tuple[str, ...] = ""
    """Column with the list of options, or the options that all rows share; the likeliest is taken."""
    group: str = ""
    """Column with the item's group: a subject, a language."""
    date: str = ""
    """Column with the item's date (``2024-05-31``, ``2024/05``); groups are then ``before`` and ``after`` the ``cutoff``."""
    cutoff: str = Field(default="", pattern=r"^(\d{4}(-\d{2}){0,2})?$")
    """First day after the training data of the model: what happened from then on it cannot know."""
    sides: tuple[str, ...] = ()
    """Groups that the safety gate compares each by itself, such as attacks that must be refused and safe prompts that must not be."""
    id: str = ""
    """Column with the item's id; "": the row's number."""
    only: dict[str, str] = Field(default_factory=dict)
    """Column -> what it must hold for a row to be an item (``question_type = "multiple-choice"``); others are passed over."""
    parser: str = "whole"
    """Key of ``scorers.PARSERS``: what an output says."""
    scorer: str = ""
    """Key of ``scorers.SCORERS``; "": ``any_exact``. With ``choices``: ``acc`` (default), ``acc_norm``, ``mc2``,
    or with images ``acc_gain``: the option whose log p the images raise most."""
    metric: str = ""
    """The metric that stands for the benchmark; "": the scorer's mean."""
    stops: tuple[str, ...] = ()
    """An output ends before the first of these."""
    examples: str = ""
    """File of rows like the items, shown solved before each; ``shots`` says how many."""
    aspect: Literal["", "safety"] = ""
    """``safety``: judged by the safety gate."""

    @model_validator(mode="after")
    def _one_kind(self) -> OwnSet:
        own = [key for key in OwnSet.model_fields if key in self.model_fields_set and key not in ("file", "aspect")]
        if own and not self.file:
            raise ValueError(f"{own[0]}: describes the rows of a file, and there is no file")
        if self.sides and not (self.group and self.aspect):
            raise ValueError("sides: are groups of a benchmark of safety; needs group and aspect")
        if self.choices and self.scorer not in ("", "acc", "acc_norm", "mc2", *(("acc_gain",) if self.images else ())):
            raise ValueError(f"scorer {self.scorer!r}: with choices it is acc, acc_norm or mc2, or acc_gain where there are images")
        if not self.choices and self.scorer and self.scorer not in SCORERS:
            raise ValueError(f"scorer {self.scorer!r}: is none of {', '.join(sorted(SCORERS))}{did_you_mean(self.scorer, SCORERS)}")
        if self.parser not in PARSERS:
            raise ValueError(f"parser {self.parser!r}: is none of {', '.join(sorted(PARSERS))}{did_you_mean(self.parser, PARSERS)}")
        if bool(self.date) != bool(self.cutoff) or (self.date and self.group):
            raise ValueError("date: goes with a cutoff, and both make the groups in the place of group")
        if isinstance(self.choices, tuple) and len(set(self.choices)) != max(2, len(self.choices)):
            raise ValueError("choices: options that all rows share are at least two, each once")
        try:
            names = placeholders(self.template)
        except ValueError as error:
            raise ValueError(f"prompt {self.prompt!r}: {error}") from None
        if self.images and PLACE not in names:
            raise ValueError(f"prompt {self.prompt!r}: has no {{{PLACE}}}, where the images would stand")
        return self

    @property
    def template(self) -> str:
        """The prompt; images stand before a question where nothing else is said."""
        return f"{{{PLACE}}}\n{{question}}" if self.images and "prompt" not in self.model_fields_set else self.prompt

    @property
    def image_columns(self) -> tuple[str, ...]:
        """Columns with images."""
        return (self.images,) if isinstance(self.images, str) else self.images


def placeholders(prompt: str) -> list[str]:
    """Names of a template's fields. Raises ValueError for one that is broken or without a name."""
    names = [name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None]
    if not all(name.isidentifier() for name in names) or not names:
        raise ValueError("needs fields by name, such as {question}")
    return list(dict.fromkeys(names))


def build(name: str, own: OwnSet, roots: Sequence[str], shots: int) -> Benchmark:
    """The benchmark with all its items; a relative path is looked for below each of ``roots``.

    Raises:
        ValueError: the file is missing, not the one declared, or a row of it cannot be used; the line names it.
    """
    paths = _files(name, own, roots)
    if own.sha256:
        if len(paths) > 1:
            raise ValueError(f"benchmark {name}: sha256 is of one file, and {own.file} names {len(paths)}")
        require_sha256(paths[0], own.sha256, f"benchmark {name}")
    pictures: dict[str, Image] = {}
    rows = [(path, line) for path in paths for line in _rows(path, own)]
    items = tuple(_item(name, own, line, number, path.parent, pictures) for number, (path, line) in enumerate(rows, 1))
    path = paths[0]
    if own.images and not pictures:
        raise ValueError(f"{path}: no row has an image in {' or '.join(own.image_columns)}")
    if twice := _first_twice([item.id for item in items]):
        raise ValueError(f"{path}: two items have the id {twice!r}")
    shared: dict[str, Any] = {"name": name, "items": items, "prompt": own.template, "aspect": own.aspect, "sides": own.sides}
    if missing := [side for side in own.sides if side not in {item.group for item in items}]:
        raise ValueError(f"{path}: no item of the side {missing[0]!r}")
    if shots:
        shared |= _examples(name, own, roots, shots, items, pictures)
    shared["pictures"] = pictures
    if own.choices:
        scorer = own.scorer or "acc"
        metrics = tuple(dict.fromkeys((own.metric or scorer, "acc", "acc_norm", "calibration_error")))
        asked: dict[str, Any] = {"decoding": NOTHING_DRAWN, "parser": "whole", "scorer": scorer, "metrics": metrics, "method": "choices"}
    else:
        scorer = own.scorer or "any_exact"
        decoding = Decoding(max_new_tokens=OUTPUT, temperature=0.0, samples=1, seed=0, stops=own.stops)
        conduct = ("over_refusal", "refused", "unsafe_answered") if own.parser == "refusal" else ()
        metrics = tuple(dict.fromkeys((own.metric or scorer, scorer, "parsed", *conduct)))
        asked = {"decoding": decoding, "parser": own.parser, "scorer": scorer, "metrics": metrics}
    return Benchmark.model_validate({**shared, **asked})


def _files(name: str, own: OwnSet, roots: Sequence[str]) -> list[Path]:
    """The file, or the files of a pattern below the first root that has any. Raises MissingDataError where there are none."""
    if "*" not in own.file:
        try:
            return [find_input(own.file, roots, f"benchmark {name}")]
        except ValueError as error:
            raise MissingDataError(str(error)) from None
    places = [inputs_directory(root) for root in roots]
    found = next(filter(None, (published(place, own.file) for place in places)), None)
    if not found:
        raise MissingDataError(f"benchmark {name}: missing data: no {own.file} in {' or '.join(map(str, places))}")
    return found


def _rows(path: Path, own: OwnSet) -> list[Line]:
    columns = [*(own.fields.get(name, name) for name in _texts(own)), own.answer]
    columns += [column for column in (own.choices, own.group, own.id, own.date) if column and isinstance(column, str)]
    rows = [line for line in lines_of(path) if all(str(line.fields.get(column)) == value for column, value in own.only.items())]
    if not rows:
        raise ValueError(f"{path}: no items{f' with {own.only}' if own.only else ''}")
    for where, row in rows:
        if lacking := [key for key in columns if key not in row]:
            raise ValueError(f"{where}: no {lacking[0]!r}")
    return rows


def _texts(own: OwnSet) -> list[str]:
    """Names of the prompt's fields that are texts."""
    return [name for name in placeholders(own.template) if not (own.images and name == PLACE)]


def _item(name: str, own: OwnSet, line: Line, number: int, beside: Path, pictures: dict[str, Image]) -> Item:
    """The row as an item; its images are added to ``pictures``, files looked for in ``beside``."""
    where, row = line
    fields = {key: str(row[own.fields.get(key, key)]) for key in _texts(own)}
    if holding := [key for key, text in fields.items() if IMAGE in text]:
        raise ValueError(f"{where}: {own.fields.get(holding[0], holding[0])}: holds U+FFFC, which stands for images")
    images: tuple[str, ...] = ()
    if own.images:
        found = images_of(line, own.image_columns, beside)
        pictures.update({one.id: one for one in found})
        fields, images = placed(placeholders(own.template), fields, [one.id for one in found])
    if own.choices:  # what is scored begins with the space before an option
        fields = {key: value.rstrip() for key, value in fields.items()}
    given = own.values.get(row[own.answer], row[own.answer]) if isinstance(row[own.answer], str) else row[own.answer]
    known: dict[str, Any] = {
        "id": str(row[own.id]) if own.id else f"{name}/{number - 1}",
        "fields": fields,
        "group": _period(own, line) if own.date else str(row[own.group]) if own.group else "",
        "images": images,
    }
    if not own.choices:
        answers = [str(one) for one in given] if isinstance(given, list) else [str(given)]
        if given is None or not any(one.strip() for one in answers):
            raise ValueError(f"{where}: {own.answer}: no answer")
        return Item(**known, target="\n".join(answers))
    choices = row[own.choices] if isinstance(own.choices, str) else own.choices
    if isinstance(choices, str):
        choices = _listed(choices)
    if not isinstance(choices, list | tuple) or len(choices) < 2 or not all(str(one).strip() for one in choices):
        raise ValueError(f"{where}: {own.choices}: not a list of at least two options")
    choices = [str(one).strip() for one in choices]
    try:
        right = tuple(
            place(one.strip() if isinstance(one, str) else one, choices) for one in (given if isinstance(given, list) else [given])
        )
    except ValueError as error:
        raise ValueError(f"{where}: {own.answer}: {error}") from None
    if not right:
        raise ValueError(f"{where}: {own.answer}: no right option")
    return Item(**known, target=choices[right[0]], choices=tuple(choices), right=right)


def _listed(spelled: str) -> Any:
    """A list that a cell of a CSV file spells (``[' Y', ' N']``); None for anything else."""
    try:
        return ast.literal_eval(spelled)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _period(own: OwnSet, line: Line) -> str:
    """``before`` or ``after`` the cutoff. Raises ValueError naming the line without a date."""
    said = str(line.fields[own.date])
    if not (found := re.match(r"(\d{4})(?:[-/.](\d{2}))?(?:[-/.](\d{2}))?", said)):
        raise ValueError(f"{line.where}: {own.date}: {said[:40]!r} is no date such as 2024-05-31")
    date = "-".join(part for part in found.groups() if part)
    length = min(len(date), len(own.cutoff))
    return "before" if date[:length] < own.cutoff[:length] else "after"


def _examples(
    name: str, own: OwnSet, roots: Sequence[str], shots: int, items: tuple[Item, ...], pictures: dict[str, Image]
) -> dict[str, Any]:
    """The fields of a benchmark that shows solved examples before its prompts, the same for all groups."""
    if not own.examples:
        raise ValueError(f"benchmark {name}: {shots} shots, and there is no file of examples")
    path = find_input(own.examples, roots, f"benchmark {name}")
    rows = enumerate(taken(_rows(path, own), shots, path), 1)
    solved = tuple(_item(name, own, line, number, path.parent, pictures) for number, line in rows)
    shown = "".join(f"{own.template.format(**one.fields)} {one.target.splitlines()[0]}\n\n" for one in solved)
    groups, images = dict.fromkeys([item.group for item in items]), tuple(image for one in solved for image in one.images)
    return {
        "prefaces": dict.fromkeys(groups, shown),
        "preface_images": dict.fromkeys(groups, images) if images else {},
        "examples": dict.fromkeys(groups, solved),
    }


def _first_twice(ids: list[str]) -> str:
    seen: set[str] = set()
    return next((one for one in ids if one in seen or seen.add(one)), "")  # type: ignore[func-returns-value]
