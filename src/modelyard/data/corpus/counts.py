"""What a corpus is made of, in numbers that add up over blocks and shards: every figure of the report is one of these."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

GROUP = ("split", "source", "kind", "language", "licence")


def count(read: list[str], documents: pa.Table, rejects: pa.Table) -> dict[str, Any]:
    """Counts of one block.

    Args:
        read: text of every row, as read.
        documents: what is kept.
        rejects: what is refused, with reasons.

    ``cut`` are characters that each rule took out of kept documents.
    """
    refused: Counter[str] = Counter()
    for reason, text in zip(rejects.column("reason").to_pylist(), rejects.column("text").to_pylist(), strict=True):
        refused[f"{reason}\tdocuments"] += 1
        refused[f"{reason}\tbytes"] += _size(text)
    sizes = [_size(text) for text in documents.column("text").to_pylist()]
    groups: Counter[str] = Counter()
    for *group, size in zip(*(documents.column(name).to_pylist() for name in GROUP), sizes, strict=True):
        groups["\t".join(map(str, [*group, "documents"]))] += 1
        groups["\t".join(map(str, [*group, "bytes"]))] += size
    return {
        "read": {"documents": len(read), "bytes": sum(map(_size, read))},
        "kept": {"documents": len(sizes), "bytes": sum(sizes)},
        "refused": refused,
        "redacted": _totals(documents.column("redacted").to_pylist()),
        "cut": _totals(documents.column("cut").to_pylist()),
        "groups": groups,
        "lengths": Counter(f"{int(np.log2(max(1, size)) * 2) / 2:.1f}" for size in sizes),
        "scores": Counter(f"{int(score * 20) / 20:.2f}" for score in documents.column("score").to_pylist() if score is not None),
    }


def add(every: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of several blocks or shards as one."""
    total: dict[str, Counter[str]] = {}
    for counts in every:
        for name, values in counts.items():
            total.setdefault(name, Counter()).update(values)
    return {name: dict(sorted(values.items())) for name, values in total.items()}


def _totals(entries: list[str | None]) -> Counter[str]:
    """Sums of ``name number, name number``."""
    total: Counter[str] = Counter()
    for entry in entries:
        for item in filter(None, (entry or "").split(", ")):
            name, number = item.split(" ")
            total[name] += int(number)
    return total


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
