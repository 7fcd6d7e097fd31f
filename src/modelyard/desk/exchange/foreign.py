"""What another tool's file says: items that the desk can give out, rankings that the line can train on, and answers held for harm.

A ranking whose form is known and that cannot be used is dropped with a reason; a file of another form is a ValueError that names it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.desk.red_team.findings import Marked
from modelyard.formats.feedback import COMPARISONS
from modelyard.store.file_hash import sha256_file

ITEMS = "items.jsonl"
TIE, NEXT = "=", ","


class ForeignItem(NamedTuple):
    """Something to rank."""

    id: str
    prompt: Any
    completions: dict[str, str]
    """Name in the file -> text, in the file's order."""


class ForeignRanking(NamedTuple):
    """Somebody's order of an item's answers."""

    item: ForeignItem
    rater: str
    groups: Sequence[Sequence[str]]
    """Names of answers, the best first; those of one group tie."""


class Foreign(NamedTuple):
    """A file."""

    items: list[ForeignItem]
    rankings: list[ForeignRanking]
    dropped: list[tuple[str, str]]
    """(where, reason)."""


class Hit(NamedTuple):
    """An answer that another tool holds for harm."""

    messages: list[dict[str, str]]
    """The conversation and the answer."""
    marked: Marked


def write(found: Foreign, out: Path) -> dict[str, tuple[int, str]]:
    """``items.jsonl`` for a batch of the desk and ``comparisons.jsonl`` of shape ``ranked`` into ``out``; file -> records and sha256."""
    items = [{"id": one.id, "prompt": one.prompt, "completions": list(one.completions.values())} for one in found.items]
    rankings = [
        {
            "id": f"{one.item.id}-{one.rater}",
            "rater": one.rater,
            "prompt": one.item.prompt,
            "completions": list(one.item.completions.values()),
            "ranks": ranks(one),
        }
        for one in found.rankings
    ]
    out.mkdir(parents=True, exist_ok=True)
    made: dict[str, tuple[int, str]] = {}
    for name, rows in ((ITEMS, items), (COMPARISONS, rankings)):
        (out / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        made[name] = (len(rows), sha256_file(out / name))
    return made


def ranks(one: ForeignRanking) -> list[int]:
    """The rank of each answer in the item's order, from 1."""
    place = {name: rank for rank, group in enumerate(one.groups, 1) for name in group}
    return [place[name] for name in one.item.completions]


def groups(names: Sequence[str], ranked: Sequence[int]) -> list[list[str]]:
    """The names by rank, the best first."""
    return [[name for name, rank in zip(names, ranked, strict=True) if rank == wanted] for wanted in sorted(set(ranked))]


def problem(item: ForeignItem, found: Sequence[Sequence[str]]) -> str:
    """Why an order is none of the item's answers; "" where it is one."""
    named = [name for group in found for name in group]
    if sorted(named) != sorted(item.completions):
        unknown = set(named) - set(item.completions)
        return "unknown_answer" if unknown else "answer_twice" if len(named) > len(set(named)) else "not_all_ranked"
    return ""


def text(value: Any, where: str) -> str:
    """A text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected text")
    return value


def table(value: Any, where: str) -> Mapping[str, Any]:
    """An object. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object")
    return value


def rows(value: Any, where: str) -> Sequence[Any]:
    """A list. Raises ValueError."""
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list")
    return value
