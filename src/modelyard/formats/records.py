"""Per-item records as files, ours and other people's: JSON lines, one item (or one sample of an item) a line.

| what | keys, the first one present counts |
| --- | --- |
| item, required | ``item``, ``item_id``, ``id``, ``doc_id``, ``task_id``, ``question_id`` |
| score, required | ``score``, a finite number; ``correct``, ``is_correct``, ``passed``, ``acc``, ``exact_match``: true/false or 0 to 1 (1 is right) |
| or an answer | ``choice``, ``prediction``, ``parsed``, ``output`` |
| beside the right one | ``target``, ``gold``, ``label``, ``correct``, ``answer``; right when they are the same text |
| benchmark | ``benchmark``, ``task``, ``dataset``; "benchmark" where there is none |
| identity | ``benchmark_id``; results of different ids are never compared |

Where answers are numbers of choices, ``correct`` is the right one's number, if any line of the file has one above 1.
Everything else is kept and ignored. ``.gz`` files are read too. Files of other tools are :mod:`modelyard.formats.item_files`.
Left out: tables (CSV, Parquet).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from modelyard.config import Config
from modelyard.formats import item_files

ITEM = ("item", "item_id", "id", "doc_id", "task_id", "question_id")
SCORE = ("score", "correct", "is_correct", "passed", "acc", "exact_match")
ANSWER = ("choice", "prediction", "parsed", "output")
TARGET = ("target", "gold", "label", "correct", "answer")
LARGEST = 1e100
"""Scores stay below it, so that sums of them are numbers too."""
BENCHMARK = ("benchmark", "task", "dataset")


def read_records(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Benchmark -> records with ``item`` (str) and ``score`` (float) filled in.

    Raises:
        ValueError: the file cannot be read, a line is no record, or an item is two different questions; the message names
            file, line and what is missing.
    """
    entries = list(item_files.rows(path))
    by_number = any(_is_number(entry.get("correct")) and entry["correct"] > 1 for _, entry in entries)
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    contents: dict[tuple[str, str], Any] = {}
    for where, entry in entries:
        try:
            scored = {**entry, "item": item_of(entry), "score": score_of(entry, by_number)}
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        name = str(_first(entry, BENCHMARK) or "benchmark")
        if contents.setdefault((name, scored["item"]), entry.get("content")) != entry.get("content"):
            raise ValueError(f"{where}: item {scored['item']} is another question before; give each task a file of its own")
        groups[name].append(scored)
    if not groups:
        raise ValueError(f"{path}: no records")
    if _holds_more([entry for _, entry in entries]):
        raise ValueError(f"{path}: answers hold more than the text of their targets; give each row a score")
    return dict(groups)


def scores_by_item(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean score of each item (several records an item are samples of it).

    Raises:
        ValueError: a record has no item or no usable score.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for number, entry in enumerate(records, 1):
        try:
            found[item_of(entry)].append(score_of(entry))
        except ValueError as error:
            raise ValueError(f"record {number}: {error}") from None
    return {item: sum(values) / len(values) for item, values in found.items()}


def item_of(entry: Mapping[str, Any]) -> str:
    """The item's id. Raises ValueError when there is none."""
    item = _first(entry, ITEM)
    if item is None or isinstance(item, dict | list):
        raise ValueError(f"no item id (one of {', '.join(ITEM)})")
    return str(item)


def score_of(entry: Mapping[str, Any], by_number: bool = False) -> float:
    """The item's score; ``by_number``: a whole number in ``correct`` is the right choice's. Raises ValueError when there is none that is finite."""
    answer, target = _first(entry, ANSWER), _first(entry, TARGET)
    for key in SCORE:
        value = entry.get(key)
        if key != "correct" and value is not None and not isinstance(value, bool | int | float):
            raise ValueError(f"{key} is {str(value)[:40]!r}, not a number")
        if isinstance(value, bool | int | float) and not (by_number and key == "correct" and _is_number(answer)):
            try:
                score = float(value)
            except OverflowError:
                score = math.inf
            if not abs(score) < LARGEST:
                raise ValueError(f"{key} is {score}, not a finite number below {LARGEST:g}")
            if key != "score" and not 0 <= score <= 1:
                raise ValueError(f"{key} is {value}, not between 0 and 1")
            return score
    if answer is not None and target is not None and not isinstance(answer, dict | list) and not isinstance(target, dict | list):
        return float(str(answer).strip() == str(target).strip())
    raise ValueError(f"no numeric score (one of {', '.join(SCORE)}) and no answer ({', '.join(ANSWER)}) beside its {', '.join(TARGET)}")


def _by_text(entry: Mapping[str, Any]) -> bool:
    """Whether a row has nothing to judge by but what was said beside its target."""
    return not any(isinstance(entry.get(key), bool | int | float) for key in SCORE) and isinstance(_first(entry, ANSWER), str)


def _holds_more(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether what was said is whole replies: more of them hold their target among other words than are it, or none of the outputs is."""
    if not all(map(_by_text, entries)):
        return False
    right = sum(score_of(entry) for entry in entries)
    return right < sum(map(_says, entries)) or not (right or any(_first(entry, ANSWER[:3]) for entry in entries))


def _says(entry: Mapping[str, Any]) -> bool:
    """Whether a row's answer holds its target among other words."""
    answer, target = str(_first(entry, ANSWER)).strip(), str(_first(entry, TARGET)).strip()
    return answer != target and bool(target) and re.search(rf"(?<!\w){re.escape(target)}(?!\w)", answer) is not None


def _is_number(value: Any) -> bool:
    """Whether it can be a choice's number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


class Record(Config):
    """What happened with one item: one line of ``records/{model}/{benchmark}.jsonl``."""

    benchmark: str
    """Name."""
    benchmark_id: str
    """:attr:`Benchmark.id`."""
    model: str
    """base, sft or policy."""
    weights: str
    """Fingerprint of the weights that answered."""
    item: str
    """Item id."""
    prompt_sha256: str
    """Of the prompt text."""
    prompt: str
    """The text that the model was shown; "" for rows of packed tokens."""
    output: str
    """What the model said; "" where nothing was generated."""
    parsed: str
    """What the parser made of it."""
    score: float
    """Higher is better, in every benchmark."""
    logprobs: tuple[float, ...]
    """log p in nats: of each scored or generated token, or the sum over each choice's tokens."""
    contaminated: bool
    """Whether the contamination check found the item in a training set."""
    choice: int = -1
    """Likeliest choice, from 0; -1 where there are none."""
    choice_normalised: int = -1
    """The same by log p a character."""
    values: dict[str, float] = Field(default_factory=dict)
    """Everything measured on this item: ``acc``, ``acc_norm``, ``f1``...; ``score`` is one of them."""
    group: str = ""
    """The item's."""
    target: str = ""
    """The right answer; "" where a program or a model judges."""
    sample: int = 0
    """Number of the output where several are drawn."""
    images: tuple[str, ...] = Field(default=(), exclude_if=lambda images: not images)
    """Ids of the images that were shown."""
    note: str = ""
    """Reason of a failure, isolation of the sandbox, a prompt that was cut."""


def write_records(path: Path, records: Iterable[Record]) -> None:
    """One line of JSON an item."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for entry in records:
            file.write(entry.model_dump_json() + "\n")
