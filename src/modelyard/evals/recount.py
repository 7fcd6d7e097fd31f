"""A results artifact counted again from its records: what its metrics must be, whatever ``results.json`` says.

Bootstraps are drawn by the seed of the artifact's config, so the same records give the same intervals. What else of it the card
shows (reliability, samples, replies about images) must be what the records say too. Only arithmetic is repeated; that an output
deserves its score is the evals stage's word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError

from modelyard.complaint import first_error
from modelyard.evals import pairs
from modelyard.evals.summary import bins, in_parts
from modelyard.formats import json_file
from modelyard.formats.records import Record
from modelyard.formats.results import SHOWN, Rows, read_calibration, read_results, read_shown
from modelyard.stats.estimate import Estimate
from modelyard.store.manifest import MANIFEST

CLASS = "class_"
OVER = "_over_"
SAMPLES = "samples.json"
_SAMPLES = TypeAdapter(list[dict[str, str]])
Answers = dict[str, dict[str, Sequence[Record]]]
"""Model -> benchmark -> records."""


class Kind(NamedTuple):
    """What ``benchmarks.json`` and the records say of a benchmark."""

    name: str
    metrics: tuple[str, ...]
    classes: tuple[str, ...]


def recount(directory: Path) -> dict[str, Estimate]:
    """``evals/{model}/{benchmark}/{metric}`` -> the estimate that the records in ``directory`` give.

    Raises:
        ValueError: the artifact or one of its records cannot be read, a record lacks what a metric is made of, or something that the card
            shows beside the metrics is not what the records say.
    """
    results, seed = read_results(directory), int(json_file.table(directory / MANIFEST)["config"]["seed"])
    found: dict[str, Estimate] = {}
    answers: Answers = {}
    for model, benchmarks in results.records.items():
        records = {name: _records(rows, f"{directory}/records/{model}/{name}.jsonl") for name, rows in benchmarks.items()}
        answers[model] = records
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
    _require_bars(directory, {name: of.metrics for name, of in results.benchmarks.items()}, answers, found)
    _require_said(directory, answers)
    return found


def _require_bars(directory: Path, metrics: Mapping[str, Sequence[str]], answers: Answers, found: Mapping[str, Estimate]) -> None:
    """Raise ValueError where a curve of ``calibration.json`` is not that of the records."""
    given = read_calibration(directory)
    wanted = {name for name, listed in metrics.items() if "calibration_error" in listed}
    for name in sorted(wanted | given.keys()):
        models = {model for model, records in answers.items() if name in records} if name in wanted else set[str]()
        if given.get(name, {}).keys() != models:
            raise ValueError(f"{directory / 'calibration.json'}: {name}: not of the models whose records there are")
        for model, shown in given.get(name, {}).items():
            bars = [value for one in bins(answers[model][name]) for value in one.model_dump().values()]
            drawn = [value for one in shown.bins for value in one.model_dump().values()]
            error = found[f"evals/{model}/{name}/calibration_error"].value
            if len(bars) != len(drawn) or not np.allclose([*bars, error], [*drawn, shown.error], rtol=1e-9, atol=1e-12):
                raise ValueError(f"{directory / 'calibration.json'}: {name}: not what the records of {model} give")


def _require_said(directory: Path, answers: Answers) -> None:
    """Raise ValueError where an answer that the card shows is no record's."""
    for one in read_shown(directory):
        for model, reply in one.replies.items():
            rows = [row for row in answers.get(model, {}).get(one.benchmark, ()) if row.item == one.item and not row.sample]
            said = {text.strip() for row in rows for text in (row.output, *_chosen(row, one.choices))}
            if [row.score for row in rows] != [reply.score] or reply.said.strip() not in said:
                raise ValueError(f"{directory / SHOWN}: {one.benchmark}: {one.item}: not what the records of {model} say")
    outputs = {model: {row.output for rows in records.values() for row in rows} for model, records in answers.items()}
    samples = json_file.read(directory / SAMPLES, _SAMPLES)
    for place, sample in enumerate(samples):
        for model in sample.keys() & outputs.keys():
            if sample[model] not in outputs[model]:
                raise ValueError(f"{directory / SAMPLES}: sample {place}: no record of {model} says it")


def _chosen(row: Record, choices: Sequence[str]) -> Sequence[str]:
    """The option that a record chose by likelihood a character, where it chose one."""
    return choices[row.choice_normalised : row.choice_normalised + 1] if row.choice_normalised >= 0 else ()


def _records(rows: Rows, where: str) -> Sequence[Record]:
    try:
        return [Record.model_validate(row) for row in rows]
    except ValidationError as error:
        raise ValueError(f"{where}: {first_error(error)}") from None
