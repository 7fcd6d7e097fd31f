"""What the contamination check found, as the file that evals, gates and the card read: benchmark -> :class:`Checked`.

Two figures stand beside each other: as written (the GPT-4 report's rule, to be reported) and by content (folded
spelling, short items by evidence), which is what gates and what splits scores into clean and contaminated items.
Beside the report stand the pretraining documents that hold an item by content: a twin is trained without them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import Field, TypeAdapter, model_validator

from modelyard.config import Config
from modelyard.formats import json_file

FILE = "report.json"
HOLDING = "documents.json"


class Searched(Config):
    """One training set as one benchmark's items were looked for in it."""

    documents: int = Field(ge=0)
    """Texts searched."""
    written: int = Field(default=0, ge=0)
    """Items found as written."""
    content: int = Field(default=0, ge=0)
    """Items found by content."""
    ngram: int = Field(default=0, ge=0)
    """Items that the second opinion calls contaminated."""


class Hit(Config):
    """An item found in a training set."""

    item: str
    """The item's id."""
    set: str
    """The training set."""
    document: str
    """Id of the first document that holds it."""
    found: str
    """What was found there: a substring without spaces and symbols, or the words of an n-gram."""


class Checked(Config):
    """One benchmark."""

    n: int = Field(ge=0)
    """Items looked for."""
    written: tuple[str, ...] = ()
    """Ids of the items found as written, in any set."""
    content: tuple[str, ...] = ()
    """Ids of those found by content."""
    sets: dict[str, Searched] = Field(default_factory=dict)
    """Training set -> what was found there."""
    hits: dict[str, tuple[Hit, ...]] = Field(default_factory=dict)
    """``written``, ``content`` and ``ngram`` -> where."""

    @model_validator(mode="after")
    def _among(self) -> Checked:
        if max(len(set(self.written)), len(set(self.content))) > self.n:
            raise ValueError(f"more items contaminated than the {self.n} that were looked for")
        return self

    @property
    def written_share(self) -> float:
        """Share of the items found as written; 0 without items."""
        return len(self.written) / max(1, self.n)

    @property
    def content_share(self) -> float:
        """Share of the items found by content; 0 without items."""
        return len(self.content) / max(1, self.n)


Report = Mapping[str, Checked]
_REPORT = TypeAdapter(dict[str, Checked])
_IDS = TypeAdapter(list[str])


def read_report(directory: Path) -> dict[str, Checked]:
    """The report of a contamination artifact. Raises ValueError naming the file that is missing or damaged, and the key."""
    return json_file.read(directory / FILE, _REPORT)


def write_report(directory: Path, report: Report) -> None:
    """:func:`read_report`'s file."""
    content = _REPORT.dump_python(dict(report), mode="json")
    (directory / FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_holding(directory: Path) -> frozenset[str]:
    """Ids of the pretraining documents that hold an item of any benchmark by content. Raises ValueError naming the file."""
    documents: list[str] = json_file.read(directory / HOLDING, _IDS)
    return frozenset(documents)


def write_holding(directory: Path, documents: Collection[str]) -> None:
    """:func:`read_holding`'s file."""
    (directory / HOLDING).write_text(json.dumps(sorted(documents), indent=1, ensure_ascii=False) + "\n", "utf-8")
