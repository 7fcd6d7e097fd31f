"""One row of a file of documents: readable, or broken with a reason; and the count of both.

Whether too much is broken is the caller's decision (:class:`Tally`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from modelyard.data.corpus.document import DataError

NOT_WANTED = frozenset({"read/not_html", "read/http_status", "read/revisit", "read/no_dialog"})
"""Reasons that say nothing against a file: an archive is full of redirects and images, a pinned package is what it always was."""


class Record(NamedTuple):
    """One row that can be used."""

    place: str
    """Where in the file: ``line 7``, ``row 7``, ``record 7``; empty for the whole file."""
    text: str
    row: Any
    """Its fields by name, of a Parquet row those that were asked for; the value itself where a JSON row is no object."""


class Broken(NamedTuple):
    """One row, or the rest of a file, that cannot be used."""

    place: str
    reason: str
    """``read/...``."""
    detail: str
    sample: str
    """Its beginning."""


class TextField(NamedTuple):
    """Where a row's text stands."""

    name: str
    """Field or column; dots lead into nested ones, where no field has the whole name."""
    or_any: bool = False
    """Whether a row without that field is all its strings, so that dialogs and comparisons are text too."""
    id_name: str = ""
    """Field or column of the id, which is read beside the text."""

    def record(self, place: str, row: object, sample: str = "") -> Record | Broken:
        """The row, or why it has no text."""
        text = self._of(row)
        if text is None:
            return Broken(place, "read/no_text", self._missing(row), sample)
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                return Broken(place, "read/lone_surrogate", "half of a surrogate pair in an escape", repr(text[:200]))
        return Record(place, text, row)

    def _missing(self, row: object) -> str:
        if not isinstance(row, dict):
            return "not a JSON object"
        if (value := value_at(row, self.name)) is not None:
            return f"field {self.name!r} holds {_kind(value)}, no text"
        return f"no text in field {self.name!r} (there are {_names(row)})"

    def _of(self, row: object) -> str | None:
        value = value_at(row, self.name) if isinstance(row, dict) else None
        if isinstance(value, str):
            return value
        return ("\n".join(_strings(row)) or None) if self.or_any else None


def _kind(value: object) -> str:
    named = {bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return named.get(type(value), type(value).__name__)


def value_at(row: dict[str, Any], name: str) -> Any:
    """The value of a field; ``a.b`` is field b of field a where no field is called ``a.b``; None where there is none."""
    if name in row or "." not in name:
        return row.get(name)
    first, rest = name.split(".", 1)
    inner = row.get(first)
    return value_at(inner, rest) if isinstance(inner, dict) else None


class Tally:
    """Counts rows and broken ones; refuses when the share of broken ones passes a limit."""

    def __init__(self, where: str, limit: float) -> None:
        """Args: ``where``: begins the error's line; ``limit``: largest share of broken rows, 0 for none."""
        self.where, self.limit = where, limit
        self.rows = 0
        self.broken: list[Broken] = []

    def take(self, rows: Iterator[Record | Broken]) -> Iterator[Record]:
        """The usable rows; broken ones are kept in ``broken``."""
        for row in rows:
            self.rows += 1
            if isinstance(row, Broken):
                self.broken.append(row)
            else:
                yield row

    def check(self) -> None:
        """Raises DataError, naming the first broken row, when too many are broken."""
        broken = [row for row in self.broken if row.reason not in NOT_WANTED]
        if len(broken) > self.limit * self.rows:
            first = broken[0]
            what = f"{first.place}: {first.detail}" if first.place else first.detail
            share = f"; {len(broken)} of {self.rows} rows are unreadable, at most {self.limit:.2%} may be" if self.limit else ""
            raise DataError(f"{self.where}: {what}{share}")


def invalid_utf8(place: str, data: bytes, error: UnicodeDecodeError) -> Broken:
    """A row that is no UTF-8."""
    what = f"invalid UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start})"
    return Broken(place, "read/invalid_utf8", what, sample(data))


def sample(data: bytes) -> str:
    """The beginning of a row, to be shown."""
    return data[:2000].decode("utf-8", errors="replace")


def _names(row: dict[str, Any]) -> str:
    names = [str(name)[:40] for name in list(row)[:8]]
    return ", ".join([*names, "..."] if len(row) > 8 else names) or "none"


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("utf-8", errors="replace")
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
