"""Builds the ``corpus`` artifact: default and own sources in; documents, refusals with reasons, ratings,
demonstrations, prompts and benchmarks out.

Order: fetch and read -> assign splits -> train the abuse filter -> screen in parallel -> duplicates, held-out rows
first -> validate -> write. Rated items follow their text: an item whose text is refused is not rated data either. Test
items are in ``ratings.parquet`` (split ``test``) and ``benchmarks/`` only; validation rows are in no training set and
no rating split. Left out: incremental shards and PII (issue 4's work).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.config import Config
from modelyard.data.corpus import held_out as exports
from modelyard.data.corpus.document import DOCUMENT_SCHEMA, REJECT_SCHEMA, DataError, Rating, Transform, to_table
from modelyard.data.corpus.held_out import ExportsConfig
from modelyard.data.corpus.splits import SplitsConfig, assign
from modelyard.data.filters import abuse, duplicates
from modelyard.data.filters.screen import FiltersConfig, Screen
from modelyard.data.reading import Readings, SourcesConfig, read
from modelyard.formats.expectation import SuiteResult, Validate
from modelyard.progress import Report

_BATCH_ROWS = 1000
_RATING_SCHEMA = pa.schema(
    [("id", pa.string()), ("domain", pa.string()), ("split", pa.string()), ("text", pa.string()), ("votes", pa.list_(pa.int8()))]
)
Row = dict[str, Any]


class CorpusConfig(Config):
    """Everything that defines a corpus."""

    seed: int
    """Of splits and samples."""
    sources: SourcesConfig
    """What is read."""
    filters: FiltersConfig
    """What is refused."""
    splits: SplitsConfig
    """What is held out."""
    exports: ExportsConfig
    """What later stages get beside documents."""


def run(
    config: CorpusConfig,
    inputs: Mapping[str, Path],
    out: Path,
    report: Report,
    transform: Transform,
    cache: Path,
    validate: Validate,
) -> dict[str, float]:
    """Build the corpus into ``out``.

    Args:
        config: what to build.
        inputs: no artifact is needed; present because every stage has it.
        out: empty directory.
        report: receives progress.
        transform: runs the screening pass, inline or on workers.
        cache: where fetched distributions are kept.
        validate: runs the declared expectations.

    Raises:
        DataError: an unusable source, or nothing left after filtering.
        ExpectationError: the corpus breaks a declared expectation.
    """
    assert not inputs, "the corpus has no parents"
    readings = read(config.sources, cache, report)
    if not readings.documents:
        raise DataError("corpus: empty: the sources gave no document")
    trained = abuse.build(config.filters.abuse, cache)
    rows = _screen(readings, config, Screen(config.filters, trained.filter), transform, report)
    _refuse_duplicates(rows, config)
    kept = [row for row in rows if row["reason"] is None]
    documents = _documents(kept)
    if not any(row["split"] == "train" for row in documents):
        raise DataError(f"corpus: empty: all {len(rows)} documents were refused or held out ({_reasons(rows)})")
    ratings = _ratings(kept, readings.ratings)
    suites = _validate(documents, ratings, validate)
    _write(out, "documents.parquet", documents, DOCUMENT_SCHEMA)
    _write(out, "rejects.parquet", [row for row in rows if row["reason"] is not None], REJECT_SCHEMA)
    _write(out, "ratings.parquet", ratings, _RATING_SCHEMA)
    exported = exports.build(kept, config.exports, config.seed)
    _export(out, exported, readings.human_eval)
    trained.save(out)
    statistics = _statistics(rows, documents, ratings, exported, readings, trained)
    for name, content in (("statistics", statistics), ("sources", readings.sources), ("expectations", [s.model_dump() for s in suites])):
        (out / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for result in suites:
        result.keep_page(out)
        result.require()
    return _metrics(rows, documents, ratings, trained)


def _screen(readings: Readings, config: CorpusConfig, screen: Screen, transform: Transform, report: Report) -> list[Row]:
    """Screened rows with their split, held-out ones first (stable otherwise)."""
    table = to_table(readings.documents)
    tables = [table.slice(start, _BATCH_ROWS) for start in range(0, table.num_rows, _BATCH_ROWS)]
    rows: list[Row] = []
    for result in transform(tables, screen):
        rows += result.to_pylist()
        report(len(rows), table.num_rows, unit="document")
    rated = {rating.id for rating in readings.ratings}
    for row in rows:
        row["split"] = assign(row["group"], row["id"] in rated, config.splits, config.seed)
    return sorted(rows, key=lambda row: row["split"] not in ("test", "validation"))


def _refuse_duplicates(rows: list[Row], config: CorpusConfig) -> None:
    """Sets ``reason`` of later copies of kept rows."""
    kept = [row for row in rows if row["reason"] is None]
    permutations = config.filters.duplicates.permutations
    signature: npt.NDArray[np.uint32] = np.frombuffer(b"".join(row["signature"] for row in kept), np.uint32).reshape(-1, permutations)
    for row, copy in zip(kept, duplicates.find([row["key"] for row in kept], signature, config.filters.duplicates), strict=True):
        if copy is not None:
            original = kept[copy.original]
            held = "_of_held_out" if original["split"] in ("test", "validation") and row["split"] not in ("test", "validation") else ""
            row["reason"] = f"duplicate/{'exact' if copy.exact else 'near'}{held}"
            row["detail"] = f"{original['id']} {copy.similarity:.2f}"


def _documents(kept: list[Row]) -> list[Row]:
    split = {"validation": "validation", "train": "train", "reward": "train", "gold": "train"}
    return [{**row, "split": split[row["split"]]} for row in kept if row["split"] != "test"]


def _ratings(kept: list[Row], ratings: list[Rating]) -> list[Row]:
    by_id = {row["id"]: row for row in kept if row["split"] in ("reward", "gold", "test")}
    return [
        {"id": r.id, "domain": r.domain, "split": by_id[r.id]["split"], "text": by_id[r.id]["text"], "votes": r.votes}
        for r in ratings
        if r.id in by_id
    ]


def _validate(documents: list[Row], ratings: list[Row], validate: Validate) -> list[SuiteResult]:
    results = [validate("corpus/documents", pd.DataFrame(documents, columns=DOCUMENT_SCHEMA.names))]
    if ratings:
        frame = pd.DataFrame([{key: row[key] for key in ("id", "domain", "split")} for row in ratings])
        frame["n_votes"] = [len(row["votes"]) for row in ratings]
        frame["min_vote"] = [min(row["votes"]) for row in ratings]
        frame["max_vote"] = [max(row["votes"]) for row in ratings]
        frame["mean_vote"] = [sum(row["votes"]) / len(row["votes"]) for row in ratings]
        results.append(validate("corpus/ratings", frame))
    return results


def _write(out: Path, name: str, rows: list[Row], schema: pa.Schema) -> None:
    table = pa.Table.from_pylist([{key: row[key] for key in schema.names} for row in rows], schema=schema)
    pq.write_table(table, out / name, compression="zstd")


def _export(out: Path, exported: exports.Exports, human_eval: list[Row]) -> None:
    (out / "benchmarks").mkdir()
    write_jsonl(out / "demonstrations.jsonl", exported.demonstrations)
    write_jsonl(out / "prompts.jsonl", exported.prompts)
    write_jsonl(out / "benchmarks" / "openings.jsonl", exported.openings)
    write_jsonl(out / "benchmarks" / "last_word.jsonl", exported.last_word)
    write_jsonl(out / "benchmarks" / "held_out_text.jsonl", exported.held_out_text)
    write_jsonl(out / "benchmarks" / "human_eval.jsonl", human_eval)


def write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    """One JSON object a line, UTF-8."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def _reasons(rows: list[Row]) -> str:
    counts = Counter(row["reason"] for row in rows if row["reason"])
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common())


def _statistics(
    rows: list[Row], documents: list[Row], ratings: list[Row], exported: exports.Exports, readings: Readings, trained: abuse.Trained
) -> Row:
    def count(items: Iterable[Row], *keys: str) -> dict[str, int]:
        return dict(sorted(Counter("/".join(str(item[key]) for key in keys) for item in items).items()))

    sizes: Counter[str] = Counter()
    for row in documents:
        sizes[f"{row['split']}/{row['kind']}"] += len(row["text"].encode())
    return {
        "read": count(rows, "source"),
        "kept": count(documents, "source"),
        "kept_by_kind": count(documents, "split", "kind"),
        "kept_bytes": dict(sorted(sizes.items())),
        "refused": count((row for row in rows if row["reason"]), "reason"),
        "refused_by_source": count((row for row in rows if row["reason"]), "source", "reason"),
        "ratings": count(ratings, "domain", "split"),
        "exports": {name: len(getattr(exported, name)) for name in exported._fields} | {"human_eval": len(readings.human_eval)},
        "abuse": trained.report(),
        "licences": count(documents, "licence"),
    }


def _metrics(rows: list[Row], documents: list[Row], ratings: list[Row], trained: abuse.Trained) -> dict[str, float]:
    refused = Counter(row["reason"].partition("/")[0] for row in rows if row["reason"])
    metrics: dict[str, float] = {
        "corpus/documents/read": len(rows),
        "corpus/documents/kept": len(documents),
        "corpus/documents/bytes": sum(len(row["text"].encode()) for row in documents),
        "corpus/ratings/items": len(ratings),
        **{f"corpus/refused/{name}": count for name, count in sorted(refused.items())},
    }
    return metrics | trained.metrics("corpus/abuse")
