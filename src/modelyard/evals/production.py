"""The production model on today's benchmarks: what a candidate is compared with when production was measured by others.

A new corpus, judge or scorer of answers changes benchmark ids, and results of different ids are never compared. So the model that serves
answers again, with its own tokenizer: every benchmark here is made of text, and the loss is per byte. Left out: what needs models that
were made beside it (win rates, KL) and its calibration, which is not compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch.distributed as dist

from modelyard.evals.answers import Contaminated, Judges, answer_texts
from modelyard.evals.conduct import opened
from modelyard.evals.evaluate import MICRO_BATCH, Progress, text_results
from modelyard.evals.suites import EvalsConfig, build
from modelyard.execution import ExecutionConfig
from modelyard.formats import abuse
from modelyard.formats.records import write_records
from modelyard.formats.results import write_results
from modelyard.model.network import parallel
from modelyard.model.subject import Subject
from modelyard.progress import Report
from modelyard.store.file_hash import sha256_tree


def run(
    config: EvalsConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Measure ``inputs`` policy (production's) by the benchmarks of tokens, corpus, contamination and scorer (the candidate's).

    The layout of ``out`` is that of a results artifact.

    Raises:
        ValueError: a benchmark is empty, or the corpus carries no abuse model.
    """
    parallel.initialize(execution)
    classifier = abuse.load(inputs["corpus"])
    contaminated: Contaminated = json.loads((inputs["contamination"] / "contaminated.json").read_text("utf-8"))
    suite = build(config, inputs["tokens"], inputs["corpus"], sha256_tree(inputs["scorer"] / "checkpoint"), classifier.identity)
    judges = Judges(classifier, opened(config.conduct, inputs["sft"], execution) if config.conduct else None)
    subject = Subject.open("policy", inputs["policy"], execution, MICRO_BATCH)
    progress = Progress(report, sum(len(benchmark.items) for benchmark in suite.of_text()))
    said = answer_texts(subject, suite, config, judges, contaminated, progress.tick)
    results = text_results("evals/policy", said.records, said.word_nats, config.seed)
    if dist.get_rank() == 0:
        for benchmark, records in said.records.items():
            write_records(out / "records" / "policy" / f"{benchmark}.jsonl", records)
        write_results(out, results, {"policy": subject.weights}, {b.name: b.id for b in suite.of_text()})
    return {key: value for name, estimate in results.items() for key, value in estimate.flat(name).items()}
