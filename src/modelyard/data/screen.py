"""The parallel pass of the corpus builder: one pure function from a table of read rows to the same rows screened.

Order of the rules: normalise, language, quality, abuse; the first refusal is the reason. Kept rows also get their
duplicate keys, so that the only serial work left is the look-up. It holds everything it needs and pickles by reference,
so it runs as well in a loop as on Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import pyarrow as pa
from pydantic import model_validator

from modelyard.config import Config
from modelyard.data.document import READ_SCHEMA, Kind, Refusal
from modelyard.data.filters import duplicates, language, normalise, quality
from modelyard.data.filters.abuse import AbuseConfig, AbuseFilter
from modelyard.data.filters.duplicates import DuplicatesConfig
from modelyard.data.filters.language import LanguageConfig
from modelyard.data.filters.quality import QualityConfig


class FiltersConfig(Config):
    """Every filter's thresholds."""

    language: LanguageConfig
    """Accepted languages."""
    quality: dict[Kind, QualityConfig]
    """Kind -> thresholds; every kind."""
    abuse: AbuseConfig
    """Operating point of the abuse filter."""
    duplicates: DuplicatesConfig
    """MinHash parameters."""

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
            ("key", pa.binary(16)),
            ("signature", pa.binary(4 * permutations)),
        ]
    )


@dataclass(frozen=True)
class Screen:
    """Callable pass over a table; ``reason`` is null for rows that stay."""

    config: FiltersConfig
    abuse: AbuseFilter

    def __call__(self, table: pa.Table) -> pa.Table:
        """Screened rows, one for each row of the input, in order."""
        rows = table.select(READ_SCHEMA.names).to_pylist()
        for row in rows:
            row["text"] = normalise.normalise(row["text"])
            refusal = self.refuse(row["text"], row["kind"])
            row["reason"], row["detail"] = refusal if refusal else (None, None)
            if refusal is None and row["language"] == "und":
                row["language"] = self.config.language.accepted[0]
        signatures = duplicates.signatures([row["text"] for row in rows], self.config.duplicates)
        for row, signature in zip(rows, np.ascontiguousarray(signatures), strict=True):
            row["key"] = duplicates.exact_key(row["text"])
            row["signature"] = signature.tobytes()
        return pa.Table.from_pylist(rows, schema=screened_schema(self.config.duplicates.permutations))

    def refuse(self, text: str, kind: Kind) -> Refusal | None:
        """First reason against a normalised text."""
        return (
            normalise.refuse(text)
            or (language.refuse(text, self.config.language) if kind != "code" else None)
            or quality.refuse(text, kind, self.config.quality[kind])
            or (self.abuse.refuse(text) if kind != "code" else None)
        )
