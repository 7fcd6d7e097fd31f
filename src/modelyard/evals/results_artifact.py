"""The results artifact: answers, metrics, calibration, samples, and the images that the card shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from modelyard.evals.metrics import by_item
from modelyard.evals.prepare import Stage
from modelyard.evals.summary import bins, described
from modelyard.formats.images import data_url
from modelyard.formats.records import Record
from modelyard.formats.results import (
    Reliability,
    Reply,
    Shown,
    write_answers,
    write_calibration,
    write_results,
    write_shown,
)
from modelyard.judges.agreement import Agreement
from modelyard.stats.estimate import Estimate

SAMPLES = 3
PICTURES = 8
"""Items of a benchmark whose images stand on the card."""
Records = dict[str, list[Record]]
"""Benchmark -> records, in the order of its items."""


class Found(NamedTuple):
    """What was measured."""

    metrics: dict[str, Estimate]
    shares: set[str]
    """Those that must lie in [0, 1]."""

    def add(self, prefix: str, estimates: Mapping[str, Estimate], bounded: Sequence[str]) -> None:
        """Metrics of one model on one benchmark."""
        self.metrics.update({f"{prefix}/{name}": estimate for name, estimate in estimates.items()})
        self.shares.update(f"{prefix}/{name}" for name in bounded)


def write(
    out: Path,
    stage: Stage,
    answers: Mapping[str, Records],
    found: Found,
    weights: Mapping[str, str],
    graders: Sequence[Agreement],
) -> None:
    """The results artifact."""
    for name, records in answers.items():
        write_answers(out, name, records)
    described_all = {benchmark.name: described(benchmark, graders) for benchmark in stage.benchmarks}
    write_results(out, found.metrics, frozenset(found.shares), weights, described_all)
    reliability = {
        benchmark.name: {
            name: Reliability(
                error=found.metrics[f"evals/{name}/{benchmark.name}/calibration_error"].value,
                bins=tuple(bins(records[benchmark.name])),
            )
            for name, records in answers.items()
            if benchmark.name in records
        }
        for benchmark in stage.benchmarks
        if "calibration_error" in benchmark.metrics
    }
    write_calibration(out, reliability)
    write_shown(out, shown(stage, answers))
    (out / "samples.json").write_text(json.dumps(samples(stage, answers), indent=1, ensure_ascii=False), "utf-8")


def shown(stage: Stage, answers: Mapping[str, Records]) -> list[Shown]:
    """The first items with images of every benchmark, and what each model that was asked says of them."""
    found: list[Shown] = []
    for benchmark in [one for one in stage.benchmarks if one.seen and not one.blank]:
        first = {item.id: item for item in [one for one in benchmark.items if one.images][:PICTURES]}
        replies: dict[str, dict[str, Reply]] = {item: {} for item in first}
        for name in [name for name in answers if benchmark.name in answers[name]]:
            for row in [row for row in answers[name][benchmark.name] if row.item in first and not row.sample]:
                normalised = benchmark.scorer == "acc_norm" and row.choice_normalised >= 0
                said = first[row.item].choices[row.choice_normalised] if normalised else row.output.strip()
                replies[row.item][name] = Reply(said=said, score=row.score)
        found += [
            Shown(
                benchmark=benchmark.name,
                item=item.id,
                images=tuple(data_url(stage.images.row(image).png) for image in item.images),
                question=benchmark.question_of(item),
                choices=item.choices,
                target=item.target,
                replies=replies[item.id],
            )
            for item in first.values()
        ]
    return found


def samples(stage: Stage, answers: Mapping[str, Records]) -> list[dict[str, str]]:
    """What each model says to the first prompts of a benchmark that draws text, one judged by the scorer model if there
    is any."""
    texts = [*stage.judged_later, *(one for one in stage.benchmarks if one.decoding.max_new_tokens)]
    texts = [one for one in texts if all(one.name in records for records in answers.values())]  # a model of text is not shown images
    if not texts:
        return []
    first = texts[0]
    outputs = {name: [line[0].output for line in by_item(records[first.name])] for name, records in answers.items()}
    return [
        {
            "prompt": first.prompt.format(**item.fields),
            "text": item.question or item.target,
            **{name: said[place] for name, said in outputs.items()},
        }
        for place, item in enumerate(first.items[:SAMPLES])
    ]
