"""The parallel pass of the corpus builder: one pure function from a table of read rows to the same rows
screened.

Order of the rules: normalise, language, personal data, quality, Gopher, C4, repeated passages, classifier,
abuse; the first refusal is the reason. Rules see the documents of one language together, because what they
ask of a text depends on it. Kept rows also get their duplicate keys, so that the only serial work left is the
look-up. It holds everything it needs and pickles by reference, so it runs as well in a loop as on Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, get_args

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus.document import READ_SCHEMA, Kind, Refusal
from modelyard.data.filters import c4, duplicates, gopher, language, normalise, passages, pii, quality, words
from modelyard.data.filters.abuse import AbuseConfig, AbuseFilter
from modelyard.data.filters.c4 import C4Config
from modelyard.data.filters.classifier import QualityClassifier
from modelyard.data.filters.duplicates import DuplicatesConfig
from modelyard.data.filters.gopher import GopherConfig
from modelyard.data.filters.language import LanguageConfig
from modelyard.data.filters.lines import layout
from modelyard.data.filters.pii import PiiConfig
from modelyard.data.filters.quality import QualityConfig

Row = dict[str, Any]


class FiltersConfig(Config):
    """Every filter's thresholds."""

    language: LanguageConfig
    """Accepted languages."""
    quality: dict[Kind, QualityConfig]
    """Kind -> thresholds; every kind."""
    abuse: AbuseConfig
    """Training set and operating point of the abuse filter."""
    duplicates: DuplicatesConfig
    """MinHash parameters."""
    pii: PiiConfig
    """What personal data is redacted."""
    gopher: dict[Kind, GopherConfig] = Field(default_factory=dict)
    """Kind -> Gopher's rules; kinds without an entry are not asked."""
    c4: dict[Kind, C4Config] = Field(default_factory=dict)
    """Kind -> C4's rules, for web pages; kinds without an entry are not asked, nor is any other document."""
    repeated_passage: dict[Kind, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Kind -> words of a passage that is cut when it repeats an earlier one of its document; one that is mostly such passages is refused.
    0, or no entry: none is cut."""

    @model_validator(mode="after")
    def _every_kind(self) -> FiltersConfig:
        if missing := [kind for kind in get_args(Kind) if kind not in self.quality]:
            raise ValueError(f"quality has no thresholds for {', '.join(missing)}")
        return self


def screened_schema(permutations: int) -> pa.Schema:
    """Columns that :class:`Screen` returns."""
    return pa.schema(
        [
            *READ_SCHEMA,
            ("reason", pa.string()),
            ("detail", pa.string()),
            ("redacted", pa.string()),
            ("cut", pa.string()),
            ("score", pa.float32()),
            ("key", pa.binary(16)),
            ("signature", pa.binary(4 * permutations)),
        ]
    )


@dataclass(frozen=True)
class Screen:
    """Callable pass over a table; rows that stay have a null ``reason``, the others a null ``key`` and ``signature``."""

    config: FiltersConfig
    abuse: AbuseFilter
    classifier: QualityClassifier | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        """Screened rows, one for each row of the input, in order."""
        rows = table.select(READ_SCHEMA.names).to_pylist()
        for row in rows:
            self._first(row)
        self._batched(rows)
        for row in rows:
            if row["reason"] is None and row["kind"] != "code":
                row["reason"], row["detail"] = self.abuse.refuse(row["text"]) or (None, None)
        kept = [row for row in rows if row["reason"] is None]
        signatures = duplicates.signatures([row["text"] for row in kept], self.config.duplicates)
        for row, signature in zip(kept, np.ascontiguousarray(signatures), strict=True):
            row["key"] = duplicates.exact_key(row["text"])
            row["signature"] = signature.tobytes()
        return pa.Table.from_pylist(rows, schema=screened_schema(self.config.duplicates.permutations))

    def _first(self, row: Row) -> None:
        """Rules that look at one document at a time."""
        text = normalise.normalise(row["text"], row["kind"])
        refusal = normalise.refuse(text)
        if refusal is None and row["kind"] != "code":
            row["language"], refusal = language.identify(text, self.config.language, row["language"])
        row["text"], redacted = pii.redact(text, self.config.pii, row["language"])
        row["redacted"] = ", ".join(f"{name} {count}" for name, count in sorted(redacted.items()))
        row["cut"] = ""
        row["score"] = row["key"] = row["signature"] = None
        row["reason"], row["detail"] = refusal or (None, None)

    def _counted(self, kind: Kind, language: str, rows: list[Row]) -> None:
        """Rules that count words and lines, for rows of one kind and language."""
        for begin, block in words.blocks([row["text"] for row in rows]):
            part = rows[begin : begin + block.starts.size - 1]
            found, lines = words.words(block, apostrophes=True, unspaced=True), layout(block)
            texts = [row["text"] for row in part]
            _refuse(part, quality.judge(texts, block, found, lines, kind, self.config.quality[kind], language))
            if kind in self.config.gopher:
                _refuse(part, gopher.judge(block, found, lines, self.config.gopher[kind], language))

    def _batched(self, rows: list[Row]) -> None:
        """Rules that are cheaper for many documents at once; each sees what the ones before it left."""
        for kind in self.config.quality:
            groups: dict[str, list[Row]] = {}
            for row in _left(rows, kind):
                groups.setdefault("en" if kind == "code" else row["language"], []).append(row)
            for code, group in groups.items():
                self._counted(kind, code, group)
        for kind, c4_config in self.config.c4.items():
            for row in [row for row in _left(rows, kind) if row["web"]]:
                cut = c4.cut(row["text"], c4_config, row["language"])
                row["text"] = cut.text
                _count_cut(row, cut.characters)
                _refuse([row], [cut.refusal])
        for kind, size in self.config.repeated_passage.items():
            left = _left(rows, kind) if size else []
            for row, shorter in zip(left, passages.cut([row["text"] for row in left], size), strict=True):
                row["text"] = shorter.text
                _count_cut(row, {"repeated_passage": shorter.characters})
                _refuse([row], [shorter.refusal])
        if self.classifier and (left := [row for row in rows if row["reason"] is None]):
            texts = [row["text"] for row in left]
            for row, score in zip(left, self.classifier.scores(texts).tolist(), strict=True):
                row["score"] = score
            _refuse(left, self.classifier.refuse(texts, [row["source"] for row in left]))


def _left(rows: list[Row], kind: Kind) -> list[Row]:
    return [row for row in rows if row["kind"] == kind and row["reason"] is None]


def _count_cut(row: Row, characters: dict[str, int]) -> None:
    """Note what a rule cut, in the form of ``redacted``."""
    row["cut"] = ", ".join(filter(None, [row["cut"], *(f"{rule} {count}" for rule, count in sorted(characters.items()) if count)]))


def _refuse(rows: list[Row], refusals: list[Refusal | None]) -> None:
    for row, refusal in zip(rows, refusals, strict=True):
        if refusal is not None and row["reason"] is None:
            row["reason"], row["detail"] = refusal
