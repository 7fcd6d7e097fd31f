"""What a corpus must look like, in suites of Great Expectations: its table, its shares, its
refusals, and its drift from the version before.

Three suites are the corpus's own: ``documents`` looks at every row (without its text), ``shares`` and ``refusals`` at what the counts add up to; a
failed expectation stops the stage by its name. The fourth, ``drift``, compares a finished corpus with the version before it: it is a gate behind the
stage and no part of the artifact, which is the same whatever was built before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from modelyard.config import Config
from modelyard.data.corpus.counts import GROUP
from modelyard.formats.expectation import SuiteResult, Validate

_COLUMNS = ("id", "source", "kind", "language", "licence", "split", "place")


SUITES = ("corpus/documents", "corpus/shares", "corpus/refusals")
"""Suites that decide whether a corpus is made."""


class ExpectedConfig(Config):
    """Limits; each is a parameter of the suites."""

    min_documents: int = Field(ge=0)
    """Fewest kept documents."""
    max_refused: float = Field(ge=0, le=1)
    """Largest share of read documents that may be refused."""
    max_source_share: float = Field(ge=0, le=1)
    """Largest share of kept bytes that one source may have."""
    max_language_share_drift: float = Field(ge=0, le=1)
    """Most that a language's share of kept bytes may differ from the version before."""
    max_source_share_drift: float = Field(ge=0, le=1)
    """Most that a source's share may differ."""
    max_refused_drift: float = Field(ge=0, le=1)
    """Most that the refused share may differ."""


def check(shards: list[Path], counts: dict[str, Any], limits: ExpectedConfig, validate: Validate) -> list[SuiteResult]:
    """Run the suites over the documents of ``shards`` and what they add up to."""
    files = [file for shard in shards for file in sorted((shard / "documents").iterdir())]
    documents = pa.concat_tables([pq.read_table(file, columns=list(_COLUMNS)) for file in files]).to_pandas()
    parameters = limits.model_dump()
    results = [validate("corpus/documents", documents, parameters)]
    kept, refused = float(counts["kept"]["documents"]), float(sum(_refusals(counts).values()))
    shares = [{"source": source, "share": share} for source, share in _shares(counts, "source").items()]
    results.append(validate("corpus/shares", pd.DataFrame(shares, columns=["source", "share"]), parameters))
    share = pd.DataFrame([{"share": refused / max(1.0, kept + refused)}])
    results.append(validate("corpus/refusals", share, parameters))
    return results


def drift(counts: dict[str, Any], previous: dict[str, Any], limits: ExpectedConfig, validate: Validate) -> SuiteResult:
    """How far a corpus is from the counts of the version before."""
    return validate("corpus/drift", _drift(counts, previous), limits.model_dump())


def _drift(counts: dict[str, Any], previous: dict[str, Any]) -> pd.DataFrame:
    """A row for each source and language, and one for the refused share; a cell that says nothing is null."""
    rows: list[dict[str, float]] = [{"refused": abs(_refused_share(counts) - _refused_share(previous))}]
    for what in ("source", "language"):
        now, before = _shares(counts, what), _shares(previous, what)
        rows += [{what: abs(now.get(value, 0.0) - before.get(value, 0.0))} for value in sorted({*now, *before})]
    return pd.DataFrame(rows)


def _shares(counts: dict[str, Any], column: str) -> dict[str, float]:
    """Value of a column -> its share of kept bytes."""
    total: dict[str, float] = {}
    for key, value in counts.get("groups", {}).items():
        *group, unit = key.split("\t")
        if unit == "bytes":
            name = group[GROUP.index(column)]
            total[name] = total.get(name, 0.0) + value
    return {name: value / max(1.0, sum(total.values())) for name, value in total.items()}


def _refusals(counts: dict[str, Any]) -> dict[str, int]:
    return {key.split("\t")[0]: value for key, value in counts.get("refused", {}).items() if key.endswith("\tdocuments")}


def _refused_share(counts: dict[str, Any]) -> float:
    return float(sum(_refusals(counts).values())) / max(1.0, counts["read"]["documents"])
