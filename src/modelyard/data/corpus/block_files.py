"""The files of a block and of a shard: documents that stay, rejects with reasons, the index and the counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.data.corpus.counts import add, count
from modelyard.data.corpus.deduplicate import Arrivals, Verdict
from modelyard.data.corpus.document import KEPT_SCHEMA, REFUSED_SCHEMA
from modelyard.data.corpus.splits import split_of
from modelyard.data.filters import seen
from modelyard.data.filters.words import Hashes, Positions
from modelyard.data.sources.stream import Row


class Outcome(NamedTuple):
    """What became of a document that nothing but its copies may speak against."""

    verdict: Verdict
    detail: str | None


def write(found: list[Row], screened: pa.Table, kept: Positions, arrived: Arrivals, outcomes: list[Outcome], out: Path) -> None:
    """Write a block: documents that stay, rejects with reasons, the index and the counts."""
    reasons, details = screened.column("reason").to_pylist(), screened.column("detail").to_pylist()
    for index, (verdict, detail) in zip(kept.tolist(), outcomes, strict=True):
        reasons[index], details[index] = verdict.reason, detail
    stay = indices(outcome.verdict.reason is None for outcome in outcomes)
    clusters = np.array([outcomes[place].verdict.cluster for place in stay.tolist()], np.uint64)
    splits = [split_of(cluster) for cluster in clusters.tolist()]
    documents = screened.take(kept[stay]).append_column("split", pa.array(splits, pa.string())).select(KEPT_SCHEMA.names)
    refused = indices(reason is not None for reason in reasons)
    for name, values in (("reason", reasons), ("detail", details)):
        screened = screened.set_column(screened.schema.get_field_index(name), name, pa.array(values, pa.string()))
    rejects = pa.concat_tables([screened.take(refused).select(REFUSED_SCHEMA.names), _unreadable(found)])
    out.mkdir(parents=True)
    pq.write_table(documents.cast(KEPT_SCHEMA), out / "documents.parquet", compression="zstd")
    pq.write_table(rejects, out / "rejects.parquet", compression="zstd")
    index = seen.segment(arrived.keys[stay], arrived.bands[stay], arrived.signatures[stay], clusters, documents.column("id"))
    seen.save(index, out / "index")
    (out / "counts.json").write_text(json.dumps(count([row.document.text for row in found], documents, rejects)) + "\n", "utf-8")


def indices(chosen: Iterable[bool]) -> Positions:
    """Places of what is chosen."""
    return np.flatnonzero(np.fromiter(chosen, bool))


def _unreadable(found: list[Row]) -> pa.Table:
    content = [
        {
            "id": r.document.id,
            "source": r.document.source,
            "reason": r.broken.reason,
            "detail": r.broken.detail,
            "text": r.document.text[:2000],
        }
        | {"place": r.place}
        for r in found
        if r.broken
    ]
    return pa.Table.from_pylist(content, schema=REFUSED_SCHEMA)


def finish(parts: list[Path], ids: Hashes, out: Path) -> dict[str, float]:
    """Move finished blocks to ``out`` and merge their indices."""
    for kind in ("documents", "rejects"):
        (out / kind).mkdir()
        for part in parts:
            shutil.copyfile(part / f"{kind}.parquet", out / kind / f"{part.name}.parquet")
    seen.merge([seen.load(part / "index") for part in parts], out / "index")
    np.save(out / "ids.npy", ids)
    counts = add([json.loads((part / "counts.json").read_text("utf-8")) for part in parts])
    (out / "counts.json").write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", "utf-8")
    return {
        "shard/read/documents": counts["read"]["documents"],
        "shard/kept/documents": counts["kept"]["documents"],
        "shard/kept/bytes": counts["kept"]["bytes"],
    }
