"""One row of a file of documents: readable, or broken with a reason; and the count of both.

Whether too much is broken is the caller's decision (:class:`Tally`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from modelyard.data.corpus.document import DataError

NOT_WANTED = frozenset({"read/not_html"})
"""Reasons that say nothing against a file: an archive is full of redirects and images."""


class Record(NamedTuple):
    """One row that can be used."""

    place: str
    """Where in the file: ``line 7``, ``row 7``, ``record 7``; empty for the whole file."""
    text: str
    row: dict[str, Any]
    """Its other fields."""


class TextField(NamedTuple):
    """Where a row's text stands."""

    name: str
    """Field or column."""
    or_any: bool = False
    """Whether a row without that field is all its strings, so that dialogs and comparisons are text too."""

    def of(self, row: object) -> str | None:
        """The text, None where there is none."""
        value = row.get(self.name) if isinstance(row, dict) else None
        if isinstance(value, str):
            return value
        return ("\n".join(_strings(row)) or None) if self.or_any else None


class Broken(NamedTuple):
    """One row, or the rest of a file, that cannot be used."""

    place: str
    reason: str
    """``read/...``."""
    detail: str
    sample: str
    """Its beginning."""


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


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
