"""A user's own benchmark: one TOML table that says where the items are, how they are asked and how they are scored.

With ``choices`` the likeliest option is taken, without them text is generated, parsed and compared. ``{column}`` in the
prompt is a column of the file; ``fields`` gives columns other names. The file is JSON lines or CSV, gzipped or not.
Left out: what needs a program to build (a function of :mod:`modelyard.evals.catalog`).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.evals.benchmark import NOTHING_DRAWN, Benchmark, Item
from modelyard.evals.catalog.options import place
from modelyard.evals.catalog.rows import Row, jsonl, table, taken
from modelyard.evals.scorers import PARSERS, SCORERS
from modelyard.model.asked import Decoding
from modelyard.store.file_hash import require_sha256
from modelyard.store.inputs import find_input

OUTPUT = 32
"""Longest output where nothing is said, tokens."""


class OwnSet(Config):
    """Where the items of a user's own benchmark are and how they are asked; all of it is without meaning beside a name
    of the catalog."""

    file: str = ""
    """JSON lines or CSV with one item a row, beside the config or below ``execution.inputs``."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Of the file; another content stops the run. "": any (its content is part of the benchmark's id)."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Name in the prompt -> column, where they differ."""
    prompt: str = "{question}"
    """``str.format`` template over the columns."""
    answer: str = "answer"
    """Column with the right answer: a text or a list of texts any of which is right; with ``choices`` the right option's
    place from 0, its letter, its text, or a list of places."""
    choices: str = ""
    """Column with the list of options; the likeliest is taken."""
    group: str = ""
    """Column with the item's group: a subject, a language."""
    id: str = ""
    """Column with the item's id; "": the row's number."""
    parser: str = "whole"
    """Key of ``scorers.PARSERS``: what an output says."""
    scorer: str = ""
    """Key of ``scorers.SCORERS``; "": ``any_exact``. With ``choices``: ``acc`` (default), ``acc_norm`` or ``mc2``."""
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
        if self.choices and self.scorer not in ("", "acc", "acc_norm", "mc2"):
            raise ValueError(f"scorer {self.scorer!r}: with choices it is acc, acc_norm or mc2")
        if not self.choices and self.scorer and self.scorer not in SCORERS:
            raise ValueError(f"scorer {self.scorer!r}: is none of {', '.join(sorted(SCORERS))}")
        if self.parser not in PARSERS:
            raise ValueError(f"parser {self.parser!r}: is none of {', '.join(sorted(PARSERS))}")
        try:
            placeholders(self.prompt)
        except ValueError as error:
            raise ValueError(f"prompt {self.prompt!r}: {error}") from None
        return self


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
    path = find_input(own.file, roots, f"benchmark {name}")
    if own.sha256:
        require_sha256(path, own.sha256, f"benchmark {name}")
    items = tuple(_item(name, own, row, path, number) for number, row in enumerate(_rows(path, own), 1))
    if twice := _first_twice([item.id for item in items]):
        raise ValueError(f"{path}: two items have the id {twice!r}")
    shared: dict[str, Any] = {"name": name, "items": items, "prompt": own.prompt, "aspect": own.aspect}
    shared["prefaces"] = _examples(name, own, roots, shots, items) if shots else {}
    if own.choices:
        scorer = own.scorer or "acc"
        metrics = tuple(dict.fromkeys((own.metric or scorer, "acc", "acc_norm", "calibration_error")))
        asked: dict[str, Any] = {"decoding": NOTHING_DRAWN, "parser": "whole", "scorer": scorer, "metrics": metrics, "method": "choices"}
    else:
        scorer = own.scorer or "any_exact"
        decoding = Decoding(max_new_tokens=OUTPUT, temperature=0.0, samples=1, seed=0, stops=own.stops)
        metrics = tuple(dict.fromkeys((own.metric or scorer, scorer, "parsed")))
        asked = {"decoding": decoding, "parser": own.parser, "scorer": scorer, "metrics": metrics}
    return Benchmark.model_validate({**shared, **asked})


def _rows(path: Path, own: OwnSet) -> list[Row]:
    columns = [*(own.fields.get(name, name) for name in placeholders(own.prompt)), own.answer]
    columns += [column for column in (own.choices, own.group, own.id) if column]
    return (table if path.name.removesuffix(".gz").endswith(".csv") else jsonl)(path, *columns)


def _item(name: str, own: OwnSet, row: Row, path: Path, number: int) -> Item:
    fields = {key: str(row[own.fields.get(key, key)]) for key in placeholders(own.prompt)}
    given = row[own.answer]
    known: dict[str, Any] = {
        "id": str(row[own.id]) if own.id else f"{name}/{number - 1}",
        "fields": fields,
        "group": str(row[own.group]) if own.group else "",
    }
    if not own.choices:
        answers = [str(one) for one in given] if isinstance(given, list) else [str(given)]
        if given is None or not any(one.strip() for one in answers):
            raise ValueError(f"{path}:{number}: {own.answer}: no answer")
        return Item(**known, target="\n".join(answers))
    choices = row[own.choices]
    if not isinstance(choices, list) or len(choices) < 2 or not all(str(one).strip() for one in choices):
        raise ValueError(f"{path}:{number}: {own.choices}: not a list of at least two options")
    try:
        right = tuple(place(one, choices) for one in (given if isinstance(given, list) else [given]))
    except ValueError as error:
        raise ValueError(f"{path}:{number}: {own.answer}: {error}") from None
    if not right:
        raise ValueError(f"{path}:{number}: {own.answer}: no right option")
    return Item(**known, target=str(choices[right[0]]), choices=tuple(map(str, choices)), right=right)


def _examples(name: str, own: OwnSet, roots: Sequence[str], shots: int, items: tuple[Item, ...]) -> dict[str, str]:
    """Group -> the solved examples before its prompts, the same for all."""
    if not own.examples:
        raise ValueError(f"benchmark {name}: {shots} shots, and there is no file of examples")
    path = find_input(own.examples, roots, f"benchmark {name}")
    solved = [_item(name, own, row, path, number) for number, row in enumerate(taken(_rows(path, own), shots, path), 1)]
    shown = "".join(f"{own.prompt.format(**one.fields)} {one.target.splitlines()[0]}\n\n" for one in solved)
    return dict.fromkeys([item.group for item in items], shown)


def _first_twice(ids: list[str]) -> str:
    seen: set[str] = set()
    return next((one for one in ids if one in seen or seen.add(one)), "")  # type: ignore[func-returns-value]
