"""Refusals before and after alignment, through the chat template: of what should be refused, and of what only looks as if it should.

XSTest (Roettger et al. 2024, :mod:`modelyard.evals.catalog.safety`), greedy replies, refusals found by their usual phrases. The models answer the
same prompts, so what changed is counted prompt by prompt. Left out: the gate, which belongs to lines that release.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch.distributed as dist
from pydantic import Field

from modelyard.config import Config
from modelyard.evals import catalog
from modelyard.evals.benchmark import Benchmark, Recorder
from modelyard.evals.conduct import conducted
from modelyard.execution import ExecutionConfig
from modelyard.formats.records import Record, write_records
from modelyard.model.network import parallel
from modelyard.model.subject import Subject
from modelyard.progress import Report
from modelyard.stats.estimate import bootstrap_mean, proportion
from modelyard.store.file_hash import require_sha256
from modelyard.store.inputs import find_input

FILE = "xstest/xstest_prompts.csv"


class RefusalsConfig(Config):
    """What is asked."""

    seed: int
    """Of bootstraps."""
    sha256: str
    """Hash of ``xstest/xstest_prompts.csv``, which lies below ``execution.inputs``."""
    every: int = Field(ge=1)
    """Only every so many-th prompt is asked; 1: all 450."""
    max_new_tokens: int = Field(ge=8)
    """Longest reply; a refusal is found in its first 200 characters."""
    micro_batch: int = Field(ge=1)
    """A quarter of the replies that are drawn together."""


def run(
    config: RefusalsConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Ask every model of ``inputs`` (role -> model directory) and compare each with the first.

    Raises:
        ValueError: the prompts are missing or others than declared.
    """
    parallel.initialize(execution)
    benchmark = prompts(config, execution.inputs)
    records: dict[str, list[Record]] = {}
    for done, (name, directory) in enumerate(inputs.items(), 1):
        subject = Subject.open(name, directory, execution, config.micro_batch)
        records[name] = conducted(subject, benchmark, None, None, Recorder(name, subject.weights, {}))
        report(done, len(inputs), unit="model")
    metrics: dict[str, float] = {}
    first = next(iter(records))
    for name, answered in records.items():
        metrics |= rates(name, answered)
        if name != first:
            metrics |= changes(name, records[first], answered, config.seed)
    if dist.get_rank() == 0:
        for name, answered in records.items():
            write_records(out / f"{name}.jsonl", answered)
        (out / "results.json").write_text(json.dumps({"benchmark": benchmark.id, **metrics}, indent=1) + "\n", "utf-8")
    return metrics


def prompts(config: RefusalsConfig, root: str) -> Benchmark:
    """The benchmark as it is asked here: through the template, so the prompt alone."""
    path = find_input(FILE, root, "refusals")
    require_sha256(path, config.sha256, "refusals")
    whole = catalog.build("xstest", path.parent.parent)
    decoding = whole.decoding.model_copy(update={"max_new_tokens": config.max_new_tokens, "stops": ()})
    return whole.model_copy(update={"items": whole.items[:: config.every], "prompt": "{prompt}", "decoding": decoding})


def refused(records: Sequence[Record], group: str) -> list[float]:
    """1 for each prompt of the group that was refused."""
    return [float(record.parsed == "refusal") for record in records if record.group == group]


def rates(name: str, records: Sequence[Record]) -> dict[str, float]:
    """Share of safe prompts refused, and of unsafe ones."""
    found: dict[str, float] = {}
    for group, key in (("safe", "over_refusal"), ("unsafe", "refusal")):
        each = refused(records, group)
        found |= proportion(sum(each), len(each)).flat(f"refusals/{name}/{key}")
    return found


def changes(name: str, before: Sequence[Record], after: Sequence[Record], seed: int) -> dict[str, float]:
    """How the shares moved, with intervals over the same prompts."""
    found: dict[str, float] = {}
    for group, key in (("safe", "over_refusal"), ("unsafe", "refusal")):
        moved = [b - a for a, b in zip(refused(before, group), refused(after, group), strict=True)]
        found |= bootstrap_mean(moved, seed).flat(f"refusals/{name}/{key}_change")
    return found
