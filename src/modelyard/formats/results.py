"""What an evals stage measured, as files: ``results.json``, ``weights.json``, ``benchmarks.json`` and the records of every item."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.formats.records import read_records
from modelyard.stats.estimate import Estimate


class Results(NamedTuple):
    """What the evals stage measured."""

    metrics: Mapping[str, Estimate]
    """Metric key -> value."""
    weights: Mapping[str, str]
    """Model -> fingerprint of the weights scored."""
    benchmarks: Mapping[str, str]
    """Benchmark -> id."""
    records: Mapping[str, Sequence[Mapping[str, Any]]]
    """Benchmark -> per-item records of the policy."""
    base_records: Mapping[str, Sequence[Mapping[str, Any]]]
    """Benchmark -> per-item records of the base model; none in production's results, where they are not needed."""
    sft_records: Mapping[str, Sequence[Mapping[str, Any]]]
    """The same of the SFT model."""


def read_results(directory: Path) -> Results:
    """A results artifact. Raises ValueError naming the file that is missing or damaged."""
    try:
        metrics = {
            key: Estimate(entry["value"], entry["low"], entry["high"], int(entry["n"]))
            for key, entry in json.loads((directory / "results.json").read_text("utf-8")).items()
        }
        weights = json.loads((directory / "weights.json").read_text("utf-8"))
        benchmarks = json.loads((directory / "benchmarks.json").read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{directory}: not a results artifact: {error}") from None
    policy, base, sft = (
        {file.stem: read_records(file)[file.stem] for file in sorted((directory / "records" / model).glob("*.jsonl"))}
        for model in ("policy", "base", "sft")
    )
    return Results(metrics, weights, benchmarks, policy, base, sft)


def write_results(out: Path, results: Mapping[str, Estimate], weights: Mapping[str, str], benchmarks: Mapping[str, str]) -> None:
    """What the gates read: estimates, the weights measured and the ids (by name) of the benchmarks that measured them."""
    files = {
        "results.json": {key: estimate._asdict() for key, estimate in results.items()},
        "weights.json": dict(weights),
        "benchmarks.json": dict(benchmarks),
    }
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")
