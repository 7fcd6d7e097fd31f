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
KINDS = ("kind", "algorithm", "tokenizer")
"""Keys that tell the kinds of a table from each other."""


class Published(NamedTuple):
    """What a recipe says of a key."""

    value: Any
    """The value."""
    is_ours: bool
    """Whether its comment, or its table's, says that the paper has none."""
    of: str = ""
    """Kind of the table that it is of, such as ``ppo``; "" where there are no kinds."""


Values = Mapping[str, Sequence[Published]]
"""Dotted key -> what recipes say, one after another."""


def published(recipes: Sequence[Path]) -> Values:
    """What ``recipes`` say of every key that they hold."""
    found: dict[str, list[Published]] = {}
    for recipe in recipes:
        text = recipe.read_text("utf-8")
        tree, ours = tomllib.loads(text), set(_ours(text))
        for key, value in _flat(tree):
            kind = kind_of(tree[key.partition(".")[0]])
            found.setdefault(key, []).append(Published(value, key in ours, kind))
    return found


def kind_of(table: object) -> str:
    """Which kind of a table this is; "" where nothing says so."""
    given = table if isinstance(table, Mapping) else {}
    return next((str(given[key]) for key in KINDS if key in given), "")


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
