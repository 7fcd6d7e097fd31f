"""A results artifact counted again from its records: what its metrics must be, whatever ``results.json`` says.

Bootstraps are drawn by the seed of the artifact's config, so the same records give the same intervals. Only arithmetic
is repeated; that an output deserves its score is the evals stage's word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from modelyard.complaint import first_error
from modelyard.evals import pairs
from modelyard.evals.summary import in_parts
from modelyard.formats import json_file
from modelyard.formats.records import Record
from modelyard.formats.results import Rows, read_results
from modelyard.stats.estimate import Estimate
from modelyard.store.manifest import MANIFEST

CLASS = "class_"
OVER = "_over_"


class Kind(NamedTuple):
    """What ``benchmarks.json`` and the records say of a benchmark."""

    name: str
    metrics: tuple[str, ...]
    classes: tuple[str, ...]


def recount(directory: Path) -> dict[str, Estimate]:
    """``evals/{model}/{benchmark}/{metric}`` -> the estimate that the records in ``directory`` give.

    Raises:
        ValueError: the artifact or one of its records cannot be read, or a record lacks what a metric is made of.
    """
    results, seed = read_results(directory), int(json_file.table(directory / MANIFEST)["config"]["seed"])
    found: dict[str, Estimate] = {}
    for model, benchmarks in results.records.items():
        records = {name: _records(rows, f"{directory}/records/{model}/{name}.jsonl") for name, rows in benchmarks.items()}
        for name, rows in records.items():
            if name in results.benchmarks:
                classes = tuple(key for key in rows[0].values if key.startswith(CLASS))
                estimates = in_parts(Kind(name, results.benchmarks[name].metrics, classes), rows, seed)
                estimates |= {"kl_to_sft": kl} if (kl := pairs.distance_of(rows, seed)) else {}
                found |= {f"evals/{model}/{name}/{metric}": estimate for metric, estimate in estimates.items()}
            else:
                benchmark, _, other = name.rpartition(OVER)
                rates = pairs.win_rates(rows, other)
                found |= {f"evals/{model}/{benchmark}/{metric}": estimate for metric, estimate in rates.items()}
    return found


def _records(rows: Rows, where: str) -> Sequence[Record]:
    try:
        return [Record.model_validate(row) for row in rows]
    except ValidationError as error:
        raise ValueError(f"{where}: {first_error(error)}") from None
