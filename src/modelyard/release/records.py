"""Per-item records as files, ours and other people's: JSON lines, one item (or one sample of an item) a line.

| what | keys, the first one present counts |
| --- | --- |
| item, required | ``item``, ``item_id``, ``id``, ``doc_id``, ``task_id``, ``question_id`` |
| score, required | ``score``, ``correct``, ``is_correct``, ``passed``, ``acc``, ``exact_match``: finite number or true/false, higher is better |
| or an answer | ``choice``, ``prediction``, ``parsed``, ``output`` |
| beside the right one | ``target``, ``gold``, ``label``, ``correct``, ``answer``; right when they are the same text |
| benchmark | ``benchmark``, ``task``, ``dataset``; "benchmark" where there is none |
| identity | ``benchmark_id``; results of different ids are never compared |

Everything else is kept and ignored. ``.gz`` files are read too. Left out: tables (CSV, Parquet).
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard import json_file

ITEM = ("item", "item_id", "id", "doc_id", "task_id", "question_id")
SCORE = ("score", "correct", "is_correct", "passed", "acc", "exact_match")
ANSWER = ("choice", "prediction", "parsed", "output")
TARGET = ("target", "gold", "label", "correct", "answer")
BENCHMARK = ("benchmark", "task", "dataset")


def read_records(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Benchmark -> records with ``item`` (str) and ``score`` (float) filled in.

    Raises:
        ValueError: the file cannot be read, or a line is no record; the message names file, line and what is missing.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        entry = json_file.parse(line, where)
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: not a JSON object")
        try:
            groups[str(_first(entry, BENCHMARK) or "benchmark")].append({**entry, "item": item_of(entry), "score": score_of(entry)})
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    if not groups:
        raise ValueError(f"{path}: no records")
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


def score_of(entry: Mapping[str, Any]) -> float:
    """The item's score. Raises ValueError when there is none or it is not a finite number."""
    for key in SCORE:
        value = entry.get(key)
        if isinstance(value, bool | int | float):
            try:
                score = float(value)
            except OverflowError:
                score = math.inf
            if not math.isfinite(score):
                raise ValueError(f"{key} is {score}, not a finite number")
            return score
    answer, target = _first(entry, ANSWER), _first(entry, TARGET)
    if answer is not None and target is not None:
        return float(str(answer).strip() == str(target).strip())
    raise ValueError(f"no numeric score (one of {', '.join(SCORE)}) and no answer ({', '.join(ANSWER)}) beside its {', '.join(TARGET)}")


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
