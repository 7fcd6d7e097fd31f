"""The data report: one self-contained HTML page that says what became of every document and shows what each rule dropped.

Waterfall of documents and bytes by reason, samples, sources, languages, redactions, characters cut, histograms of lengths
and scores, expectations. Nothing is fetched and it reads on a phone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from modelyard import printable
from modelyard.data.corpus.counts import GROUP
from modelyard.data.corpus.report_template import TEMPLATE
from modelyard.formats.expectation import SuiteResult

_SAMPLES = 3
_SAMPLE_CHARACTERS = 400


class Step(NamedTuple):
    """One row of the waterfall."""

    name: str
    documents: int
    bytes: int
    left: int
    """Documents left after it."""
    kind: str
    """``read``, ``refused`` or ``kept``."""


def page(
    name: str, counts: dict[str, Any], sources: list[dict[str, Any]], suites: list[SuiteResult], rejects: Path, abuse: dict[str, Any]
) -> str:
    """The page; ``rejects`` is the directory of refused rows that samples are taken from, ``abuse`` what is said of the abuse filter."""
    steps = waterfall(counts)
    return printable.page(TEMPLATE).render(
        name=name,
        steps=steps,
        samples=_samples(rejects),
        sources=sources,
        kept=counts["kept"],
        read=counts["read"],
        by_source=_by(counts, "source"),
        by_language=_by(counts, "language"),
        by_licence=_by(counts, "licence"),
        by_split=_by(counts, "split"),
        redacted=counts.get("redacted", {}),
        cut=counts.get("cut", {}),
        lengths=_bars({f"{2 ** float(key):,.0f}": value for key, value in sorted(counts["lengths"].items(), key=lambda i: float(i[0]))}),
        scores=_bars(counts.get("scores", {})),
        suites=suites,
        abuse=abuse,
        size=human_size,
    )


def waterfall(counts: dict[str, Any]) -> list[Step]:
    """Read, then each reason (most documents first within its family), then kept."""
    refused = counts.get("refused", {})
    order = ["read", "normalise", "language", "quality", "gopher", "c4", "repeated_passage", "classifier", "abuse", "duplicate"]
    reasons = sorted({key.split("\t")[0] for key in refused}, key=lambda r: (_place(order, r), -refused[f"{r}\tdocuments"], r))
    left = counts["read"]["documents"]
    steps = [Step("read", left, counts["read"]["bytes"], left, "read")]
    for reason in reasons:
        left -= refused[f"{reason}\tdocuments"]
        steps.append(Step(reason, refused[f"{reason}\tdocuments"], refused[f"{reason}\tbytes"], left, "refused"))
    gone = sum(step.bytes for step in steps if step.kind == "refused") + counts["kept"]["bytes"]
    steps.append(Step("normalised, redacted and cut inside documents", 0, max(0, counts["read"]["bytes"] - gone), left, "refused"))
    return [*steps, Step("kept", counts["kept"]["documents"], counts["kept"]["bytes"], left, "kept")]


def human_size(size: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _place(order: list[str], reason: str) -> int:
    family = reason.split("/")[0]
    return order.index(family) if family in order else len(order)


def _by(counts: dict[str, Any], column: str) -> list[tuple[str, int, int, float]]:
    """(value, documents, bytes, share of bytes), largest first."""
    documents: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for key, value in counts.get("groups", {}).items():
        *group, unit = key.split("\t")
        into = documents if unit == "documents" else sizes
        into[group[GROUP.index(column)]] = into.get(group[GROUP.index(column)], 0) + value
    total = max(1, sum(sizes.values()))
    return sorted(((name, documents[name], size, size / total) for name, size in sizes.items()), key=lambda row: (-row[2], row[0]))


def _bars(values: dict[str, int]) -> list[tuple[str, int, float]]:
    """(label, count, height from 0 to 1)."""
    top = max(values.values(), default=1)
    return [(label, count, count / top) for label, count in values.items()]


def _samples(rejects: Path) -> dict[str, list[dict[str, str]]]:
    """Reason -> the first refused documents of it, from as many files as it takes."""
    found: dict[str, list[dict[str, str]]] = {}
    for path in sorted(rejects.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                wanted = _first(file.read_row_group(group, columns=["reason"]).column("reason").to_pylist(), found)
                for row in file.read_row_group(group).take(wanted).to_pylist() if wanted else ():
                    text = row["text"]
                    shown = text[:_SAMPLE_CHARACTERS] + (" ..." if len(text) > _SAMPLE_CHARACTERS else "")
                    found[row["reason"]].append({**row, "text": shown})
    return dict(sorted(found.items()))


def _first(reasons: list[str], found: dict[str, list[dict[str, str]]]) -> list[int]:
    """Places of the rows that are samples still wanted; their reasons get an entry in ``found``."""
    counts = {reason: len(samples) for reason, samples in found.items()}
    places = []
    for place, reason in enumerate(reasons):
        counts[reason] = counts.get(reason, 0) + 1
        if counts[reason] <= _SAMPLES:
            places.append(place)
            found.setdefault(reason, [])
    return places
