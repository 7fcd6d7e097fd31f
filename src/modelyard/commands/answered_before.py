"""What an earlier run of a suite has measured, so that a run that was killed asks only what is left.

A benchmark is not asked again where the output directory holds all of its records under the same id (items, prompts, decoding, judge and the
code that asks and scores), of the same weights that are read in the same way, and with the same settings. A server's weights are known by its URL
alone. Left out: the items of a benchmark that was broken off, which are asked again; what a server has replied is kept.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from modelyard.evals.benchmark import Benchmark
from modelyard.formats import json_file
from modelyard.formats.records import Record
from modelyard.model.asked import Model
from modelyard.model.subject import Subject


def metrics_file(records: Path) -> Path:
    """Where the metrics of ``NAME.jsonl`` lie: ``NAME.metrics.json``, which is written after the records."""
    return records.with_name(records.name.removesuffix(".jsonl") + ".metrics.json")


def identity(model: Model, benchmark: Benchmark) -> dict[str, Any]:
    """What two measurements share that give the same records; the settings are those that neither the id nor the weights know."""
    settings: dict[str, Any] = {"screen": False, "reading": ""}
    if isinstance(model, Subject):
        settings = {"screen": model.screen, "reading": model.reading, "precision": model.engine.precision, "products": model.products}
    return {"benchmark": benchmark.name, "benchmark_id": benchmark.id, "weights": model.weights, "settings": settings}


def earlier(out: Path, model: Model, benchmark: Benchmark) -> list[Record] | None:
    """The records of ``out``; None where they are not there, not whole, or another measurement's."""
    asked = identity(model, benchmark)
    if not out.is_file() or not metrics_file(out).is_file():
        return None
    try:
        said = json_file.table(metrics_file(out))
        records = [Record.model_validate(row) for _, row in json_file.lines(out)]
    except (ValueError, OSError):  # broken off while it was written
        return None
    if any(said.get(key) != value for key, value in asked.items()):
        return None
    if any((one.benchmark_id, one.weights) != (asked["benchmark_id"], model.weights) for one in records):
        return None
    samples = max(1, benchmark.decoding.samples)
    answered, wanted = Counter(one.item for one in records), Counter({item.id: samples for item in benchmark.items})
    return records if answered == wanted else None
