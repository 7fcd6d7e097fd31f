"""What travels through the data stage: documents in Arrow tables, and the errors a user sees.

A document is a row; a refusal is a row too, with a machine-readable reason. Tables rather than objects because Ray, Parquet and the
filters all speak Arrow. Left out: images and other modalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, Protocol

import pyarrow as pa

Kind = Literal["text", "code", "dialog", "review"]

READ_SCHEMA = pa.schema(
    [*((name, pa.string()) for name in ("id", "source", "kind", "language", "licence", "group", "text")), ("web", pa.bool_())]
)
"""Rows as readers give them; ``group`` keeps rows of one work (a play, a module, an article) in one split, "" stands alone."""
KEPT_SCHEMA = pa.schema(
    [
        *(
            (name, pa.string())
            for name in ("id", "source", "kind", "language", "licence", "group", "split", "text", "place", "redacted", "cut")
        ),
        ("score", pa.float32()),
        ("votes", pa.list_(pa.int8())),
    ]
)
"""A corpus's ``documents``."""
REFUSED_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "source", "reason", "detail", "text", "place")])
"""A corpus's ``rejects``."""


class DataError(ValueError):
    """Input that cannot be used; the message is one line naming the source, the file and, where there is one, the line."""


class Document(NamedTuple):
    """One text with its provenance."""

    id: str
    source: str
    kind: Kind
    language: str
    """Declared language, ``und`` where the source does not say; ``python`` for code."""
    licence: str
    group: str
    """Name of the work it is a part of; "" for a text that stands alone."""
    text: str
    web: bool = False
    """Whether it is a web page."""
    votes: list[int] | None = None
    """What people said about it, in -4..4, in the raters' order of the file; None where nobody was asked."""


class Refusal(NamedTuple):
    """Why a document is not in the corpus."""

    reason: str
    """``rule_family/rule``, for example ``quality/too_short``."""
    detail: str
    """The measured value or the other document, for a person to read."""


class Transform(Protocol):
    """Applies a pure table -> table function to every table, in order; how it is spread over workers never changes the result."""

    def __call__(self, tables: list[pa.Table], function: TableFunction) -> Iterator[pa.Table]:
        """Yield ``function(table)`` for each table, in the order given."""


class TableFunction(Protocol):
    """A picklable pure function from table to table."""

    def __call__(self, table: pa.Table) -> pa.Table:
        """Transform one table."""


def run_inline(tables: list[pa.Table], function: TableFunction) -> Iterator[pa.Table]:
    """The :class:`Transform` without workers: a loop."""
    return map(function, tables)


def to_table(documents: Iterable[Document]) -> pa.Table:
    """Documents as one table of :data:`READ_SCHEMA`."""
    columns = list(zip(*documents, strict=True)) or [()] * len(Document._fields)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, READ_SCHEMA.types, strict=False)]
    return pa.table(arrays, schema=READ_SCHEMA)


def one_line(error: BaseException) -> str:
    """The first line of an error's message, for use inside a longer line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
