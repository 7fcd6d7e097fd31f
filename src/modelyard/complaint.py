"""What is wrong, in one line: of a value the key, of a file its path, of a URL never its password."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modelyard.closest import did_you_mean
from modelyard.printable import printable

LONGEST_LINE = 1500
"""Characters of an error's line."""

USER = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:(?://|(?<!models:)/))"  # one slash: what a path makes of a URL; models:/NAME@ALIAS names no user
    r"(?:[^\s/@:]*@|[^\s/@:]*:(?!\d+(?:[/?#]|$))[^\s'\"]*@)"
)
"""What a URL says before its host: a name alone up to the first @, with a password up to the last (which may hold / and @)."""
QUERY = re.compile(
    r"(?i)([?&#;](?:[\w.-]*(?:passw|passphrase|pwd|secret|token|signature|credential|(?:api|access|account|shared|private)[_-]?key)[\w.-]*"
    r"|(?:[\w.-]*[_.-])?(?:sig|auth|authorization|key|pass|jwt))=)[^&\s'\"]+"
)
"""A secret in a URL's query or fragment, by its key: what AWS, Azure and Google sign by, OAuth's tokens, a database's password."""


def without_password(text: str) -> str:
    """``text`` as it may be shown: no URL in it names a user, a password or a token any more."""
    return QUERY.sub(r"\1...", USER.sub(r"\g<scheme>", text))


def showable(text: str) -> str:
    """``text`` as it may be shown to a terminal: without passwords in URLs, and with nothing that a terminal obeys."""
    return printable(without_password(text))


def complaint(error: BaseException) -> str:
    """What is wrong, as the one line that a command says: of bad values the keys, of a file its path, of anything else its own words.
    Passwords in URLs are left out, characters that are not shown are spelled, and a line that nobody would read to its end has no middle.
    """
    if isinstance(error, ValidationError):
        said = first_error(error)
    elif isinstance(error, OSError) and error.filename is not None:
        said = f"{error.filename}: {error.strerror}"
    else:
        said = " ".join(str(error).split()) or type(error).__name__
    return shortened(showable(said))


def shortened(line: str, longest: int = LONGEST_LINE) -> str:
    """``line`` without its middle where it is over ``longest`` characters."""
    half = longest // 2
    return line if len(line) <= longest else f"{line[:half]} ... {line[-half:]}"


def first_error(error: ValidationError, tree: object = None, kind: type[BaseModel] | None = None) -> str:
    """The validation errors as one line: ``key: what is wrong`` joined by ``;``.

    ``tree``: what was validated; with it the names of a table's kinds, which pydantic puts between the keys, are left out. ``kind``: what it was
    validated as; with it an unknown key is told what it may have been meant to be.
    """
    lines = []
    for item in error.errors():
        where = ".".join(map(str, keys_of(item["loc"], tree, item["type"] == "missing"))) or "config"
        what = "unknown key" if item["type"] == "extra_forbidden" else plain_words(item["msg"])
        got = "" if item["type"] in ("extra_forbidden", "missing", "value_error", "union_tag_invalid") else f" (got {item['input']!r})"
        lines.append(f"{where}: {what}{got}{meant(item, kind)}")
    return " ".join("; ".join(lines).split())


def plain_words(said: str) -> str:
    """Pydantic's sentence in the words of who writes TOML or JSON, which have lists and no Python."""
    said = re.sub(r" or (?:instance|an object) of [\w.]+$", "", said.removeprefix("Value error, "))
    return re.sub(r"\b([Tt])uple\b", lambda found: "List" if found[1] == "T" else "list", said)


CHOSEN = {"literal_error": "expected", "union_tag_invalid": "expected_tags"}
"""Type of a validation error of a value that is none of some names -> the key of its context that says which."""


def meant(item: ErrorDetails, kind: type[BaseModel] | None) -> str:
    """What an unknown key, or a value that is none of the names that it may be, was likely meant to be; "" where nothing is close."""
    if item["type"] == "extra_forbidden":
        return did_you_mean(str(item["loc"][-1]), keys_at(kind, item["loc"][:-1]))
    if named := CHOSEN.get(item["type"]):
        given = item["ctx"].get("tag", item["input"])
        return did_you_mean(str(given), re.findall(r"'([^']*)'", item["ctx"][named]))
    return ""


def keys_at(kind: object, place: Sequence[str | int]) -> set[str]:
    """The keys that a table may have at a validation error's ``place`` in a config of this ``kind``."""
    tables = tables_in(kind)
    for part in place:
        below = [one for table in tables if part in table.model_fields for one in tables_in(table.model_fields[str(part)].annotation)]
        tagged = [table for table in tables if any(part in get_args(field.annotation) for field in table.model_fields.values())]
        tables = below or tagged or tables
    return {key for table in tables for key in table.model_fields}


def tables_in(kind: object) -> list[type[BaseModel]]:
    """The kinds of tables that a type holds: its own, and those in a union, a list or a table of tables."""
    if isinstance(kind, type) and not get_args(kind):
        return [kind] if issubclass(kind, BaseModel) else []
    parts = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
    return [] if get_origin(kind) is Literal else [table for part in parts for table in tables_in(part)]


def keys_of(place: Sequence[str | int], tree: object, absent: bool) -> list[str | int]:
    """The keys among the parts of a validation error's place: those that ``tree`` has, and a last one that is ``absent``."""
    keys: list[str | int] = []
    for number, part in enumerate(place, 1):
        kind = part not in tree if isinstance(tree, dict) else tree is not None and isinstance(part, str)
        if keys and kind and not (absent and number == len(place)):
            continue
        keys.append(part)
        has = part in tree if isinstance(tree, dict) else isinstance(tree, list) and isinstance(part, int) and part < len(tree)
        tree = tree[part] if has else None  # type: ignore[index]
    return keys
