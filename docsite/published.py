"""Values that recipes take from papers, by dotted key; where a recipe says "ours" in a comment, the paper has none."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

OURS = re.compile(r"#\s*ours\b")
TABLE = re.compile(r"\[([\w.]+)\]\s*(#.*)?$")
KEY = re.compile(r"(\w+)\s*=")


class Published(NamedTuple):
    """What recipes say of a key."""

    value: Any
    """The value."""
    is_ours: bool
    """Whether its comment, or its table's, says that the paper has none."""


def published(recipes: Sequence[Path]) -> dict[str, Published]:
    """Dotted key -> what the last of ``recipes`` that has it says."""
    found: dict[str, Published] = {}
    for recipe in recipes:
        text = recipe.read_text("utf-8")
        ours = set(_ours(text))
        for key, value in _flat(tomllib.loads(text)):
            found[key] = Published(value, key in ours)
    return found


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _ours(text: str) -> Iterator[str]:
    """Dotted keys whose line, or the line of whose table, has a comment that begins with "ours"."""
    table, whole = "", False
    for line in text.splitlines():
        if head := TABLE.match(line):
            table, whole = head[1], bool(OURS.search(line))
        elif (key := KEY.match(line)) and (whole or OURS.search(line)):
            yield f"{table}.{key[1]}"
