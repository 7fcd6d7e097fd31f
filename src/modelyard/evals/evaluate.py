"""The evals stage: base, SFT and policy answer the same benchmarks; a scorer that PPO never saw says which completions are better.

Metrics: validation loss, last-word accuracy and perplexity, HumanEval pass@1 (0 at a million parameters, and reported as that),
calibration, toxicity, repetition, KL(policy || SFT) a sequence, win rates of the policy. Each with n and interval, over all, clean and
contaminated items (GPT-4 report, appendix C). Models are loaded one after another: the policy's completions come first because the SFT
model has to score them. Left out: few-shot prompts and judges.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch.distributed as dist

from modelyard.evals import metrics, scorers
from modelyard.evals.answers import Answers, Contaminated, Judges, answer, judged
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.conduct import conduct_results, opened
from modelyard.evals.suites import EvalsConfig, Suite, build
from modelyard.execution import ExecutionConfig
from modelyard.formats import abuse
from modelyard.formats.records import Record, split_scores, write_records
from modelyard.formats.results import write_results
from modelyard.model.asked import Sampled
from modelyard.model.encoder import Encoder
from modelyard.model.network import parallel
from modelyard.model.network.architecture import Precision
from modelyard.model.subject import ScorerModel, Subject
from modelyard.progress import Report
from modelyard.stats.calibration import Bin, calibration
from modelyard.stats.estimate import Estimate, bootstrap_mean, proportion
from modelyard.store.file_hash import sha256_tree

MODELS = ("policy", "sft", "base")
MICRO_BATCH = 64
SAMPLES = 3


class Progress:
    """Counts items over all models."""

    def __init__(self, report: Report, total: int) -> None:
        self.report, self.total, self.done = report, total, 0

    def tick(self, items: int) -> None:
        """``items`` more are done."""
        self.done += items
        self.report(self.done, self.total, unit="item")


def run(
    config: EvalsConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Evaluate ``inputs`` base, sft, policy with scorer, tokens, corpus and contamination; runs on every rank, rank 0 writes ``out``.

    Nothing is checkpointed: the stage is a minute long.

    Raises:
        ValueError: tokenizers differ, a benchmark is empty, or the corpus carries no abuse model.
    """
    parallel.initialize(execution)
    tokenizer = Encoder(inputs["tokens"])
    for role in (*MODELS, "scorer"):
        tokenizer.require_same(role, inputs[role])
    classifier = abuse.load(inputs["corpus"])
    contaminated: Contaminated = json.loads((inputs["contamination"] / "contaminated.json").read_text("utf-8"))
    suite = build(config, inputs["tokens"], inputs["corpus"], sha256_tree(inputs["scorer"] / "checkpoint"), classifier.identity)
    calibrated = min(config.calibration_rows, len(suite.rows)) * config.calibration_positions
    items = len(suite.rows) + sum(len(benchmark.items) for benchmark in suite.of_text()) + len(suite.openings.items) + calibrated
    judges = Judges(classifier, opened(config.conduct, inputs["sft"], execution))
    progress = Progress(report, len(MODELS) * items)
    answers: dict[str, Answers] = {}
    kl: list[float] = []
    for name in MODELS:
        subject = Subject.open(name, inputs[name], execution, MICRO_BATCH)
        answers[name] = answer(subject, suite, config, judges, contaminated, progress.tick)
        if name in ("policy", "sft"):
            kl = _sequence_kl(subject, answers["policy"].completions, kl)
    scorer = ScorerModel(inputs["scorer"], execution, MICRO_BATCH)
    for name in MODELS:
        answers[name].records["openings"] = judged(answers[name], suite, scorer, contaminated)
        progress.tick(len(suite.openings.items))
    for other, benchmark in (("sft", suite.win_over_sft), ("base", suite.win_over_base)):
        answers["policy"].records[benchmark.name] = _wins(answers["policy"], answers[other], benchmark, scorer.engine.precision)
    bins = {name: calibration(answers[name].confidences, answers[name].correct, config.seed) for name in MODELS}
    results = _results(answers, kl, {name: pair[0] for name, pair in bins.items()}, config.seed)
    if dist.get_rank() == 0:
        _write(out, suite, answers, results, bins)
    return {key: value for name, estimate in results.items() for key, value in estimate.flat(name).items()}


def _sequence_kl(subject: Subject, completions: Sequence[Sampled], before: Sequence[float]) -> list[float]:
    """log p of the policy's completions under ``subject``; given the policy's own, the difference: an estimate of KL for each sequence."""
    sums = [sum(line) for line in subject.logprobs([s.prompt for s in completions], [s.tokens for s in completions])]
    return [own - other for own, other in zip(before, sums, strict=True)] if before else sums


def _wins(candidate: Answers, other: Answers, benchmark: Benchmark, precision: Precision) -> list[Record]:
    """Item by item, 1 where the candidate's completion scores higher, 0.5 for a tie."""
    pairs, identity = zip(candidate.records["openings"], other.records["openings"], strict=True), benchmark.id
    return [
        ours.model_copy(
            update={
                "benchmark": benchmark.name,
                "benchmark_id": identity,
                "score": scorers.preference(ours.score, theirs.score, precision),
                "note": f"score {ours.score:.4f} against {theirs.score:.4f}: {theirs.output}",
            }
        )
        for ours, theirs in pairs
    ]


def _results(answers: Mapping[str, Answers], kl: Sequence[float], ece: Mapping[str, Estimate], seed: int) -> dict[str, Estimate]:
    results: dict[str, Estimate] = {}
    for name, given in answers.items():
        prefix = f"evals/{name}"
        loss = bootstrap_mean([-r.score for r in given.records["validation_loss"]], seed)
        results[f"{prefix}/validation_loss"] = loss
        results[f"{prefix}/perplexity"] = metrics.perplexity(loss)
        results |= text_results(prefix, given.records, given.word_nats, seed)
        results[f"{prefix}/repetition"] = bootstrap_mean(given.repetition, seed)
        results[f"{prefix}/calibration_error"] = ece[name]
        results[f"{prefix}/score"] = bootstrap_mean([r.score for r in given.records["openings"]], seed)
    for other in ("sft", "base"):
        results |= _split(f"evals/policy/win_rate_over_{other}", answers["policy"].records[f"win_over_{other}"])
    results["evals/policy/kl_to_sft"] = bootstrap_mean(kl, seed)
    return results


def text_results(prefix: str, records: Mapping[str, Sequence[Record]], word_nats: Sequence[float], seed: int) -> dict[str, Estimate]:
    """Metrics of the benchmarks made of text."""
    toxic = [1 - r.score for r in records["toxicity"]]
    return {
        f"{prefix}/nats_per_byte": bootstrap_mean([-r.score for r in records["held_out_text"]], seed),
        **_split(f"{prefix}/last_word_accuracy", records["last_word"]),
        f"{prefix}/last_word_perplexity": metrics.perplexity(bootstrap_mean(word_nats, seed)),
        **_split(f"{prefix}/human_eval_pass_at_1", records["human_eval"]),
        f"{prefix}/toxicity": proportion(sum(toxic), len(toxic)),
        **conduct_results(prefix, records, seed),
    }


def _split(key: str, records: Sequence[Record]) -> dict[str, Estimate]:
    """Share of right items of all, clean and contaminated ones (where there are any)."""
    return {f"{key}{part}": metrics.accuracy(scores) for part, scores in split_scores(records).items() if scores}


def _write(
    out: Path, suite: Suite, answers: Mapping[str, Answers], results: Mapping[str, Estimate], bins: Mapping[str, tuple[Estimate, list[Bin]]]
) -> None:
    for name, given in answers.items():
        for benchmark, records in given.records.items():
            write_records(out / "records" / name / f"{benchmark}.jsonl", records)
    samples = [
        {
            "prompt": item.fields["prompt"],
            "text": item.target,
            **{name: answers[name].completions[i].text for name in ("base", "sft", "policy")},
        }
        for i, item in enumerate(suite.openings.items[:SAMPLES])
    ]
    reliability = {name: {"error": pair[0]._asdict(), "bins": [b.model_dump() for b in pair[1]]} for name, pair in bins.items()}
    write_results(out, results, {name: given.weights for name, given in answers.items()}, {b.name: b.id for b in suite.all()})
    for name, content in (("samples.json", samples), ("calibration.json", reliability)):
        (out / name).write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")
