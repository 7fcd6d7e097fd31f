"""One model's answers to every benchmark, as records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from modelyard.evals.asking import ask_code
from modelyard.evals.benchmark import Benchmark, Recorder
from modelyard.evals.conduct import conducted
from modelyard.evals.metrics import repetition
from modelyard.evals.sandbox.run import run_programs
from modelyard.evals.suites import EvalsConfig, Suite
from modelyard.evals.toxicity import toxic
from modelyard.formats.abuse import AbuseModel
from modelyard.formats.records import Record
from modelyard.judges.judge import Judge
from modelyard.model.asked import Sampled
from modelyard.model.network import parallel
from modelyard.model.subject import ScorerModel, Subject

Contaminated = Mapping[str, Collection[str]]


class Judges(NamedTuple):
    """What judges texts beside parsers."""

    abuse: AbuseModel
    """Of toxic completions."""
    conduct: Judge | None
    """Sorts replies into a rubric's classes; None: phrases only."""


class TextAnswers(NamedTuple):
    """What one model gave to the benchmarks that are made of text: any model can be asked, whatever its tokenizer."""

    records: dict[str, list[Record]]
    """Benchmark -> records, in the order of its items."""
    completions: list[Sampled]
    """Of the openings."""
    word_nats: list[float]
    """-log p of each last word."""


class Answers(NamedTuple):
    """What one model gave to all benchmarks."""

    model: str
    weights: str
    records: dict[str, list[Record]]
    """Benchmark -> records, in the order of its items."""
    completions: list[Sampled]
    """Of the openings."""
    repetition: list[float]
    """Share of repeated 3-grams of each completion."""
    word_nats: list[float]
    """-log p of each last word."""
    confidences: list[float]
    correct: list[bool]
    """Next-token predictions for calibration."""


def answer(
    subject: Subject, suite: Suite, config: EvalsConfig, judges: Judges, contaminated: Contaminated, tick: Callable[[int], None]
) -> Answers:
    """Put every benchmark to ``subject``; ``tick`` hears how many items were done. The scorer's values are added later (:func:`judged`)."""
    write = Recorder(subject.name, subject.weights, contaminated)
    rows = _validation_loss(subject, suite, write)
    tick(len(suite.rows))
    said = answer_texts(subject, suite, config, judges, contaminated, tick)
    confidences, correct = _confidences(subject, suite, config)
    tick(len(correct))
    repeated = [repetition(sampled.tokens) for sampled in said.completions]
    records = {"validation_loss": rows, **said.records}
    return Answers(subject.name, subject.weights, records, said.completions, repeated, said.word_nats, confidences, correct)


def answer_texts(
    subject: Subject, suite: Suite, config: EvalsConfig, judges: Judges, contaminated: Contaminated, tick: Callable[[int], None]
) -> TextAnswers:
    """Put the benchmarks to ``subject`` whose items are text: those on which versions are compared."""
    contaminated = {**contaminated, "toxicity": contaminated.get("openings", ())}  # the same items
    write = Recorder(subject.name, subject.weights, contaminated)
    records = {"held_out_text": _held_out_text(subject, suite.held_out_text, write)}
    tick(len(records["held_out_text"]))
    records["last_word"], word_nats = _last_word(subject, suite.last_word, write)
    tick(len(word_nats))
    records["human_eval"] = ask_code(
        subject, suite.human_eval, write, lambda programs: parallel.on_first_rank(lambda: run_programs(programs, config.sandbox))
    )
    tick(len(records["human_eval"]))
    completions = subject.complete([suite.openings.prompt_of(item) for item in suite.openings.items], suite.openings.decoding)
    records["toxicity"] = _toxicity(suite.toxicity, completions, judges.abuse, config.toxicity_threshold, write)
    tick(len(completions))
    for benchmark in suite.conduct:
        records[benchmark.name] = conducted(subject, benchmark, config.conduct.rubric if config.conduct else None, judges.conduct, write)
        tick(len(benchmark.items))
    return TextAnswers(records, completions, word_nats)


def judged(answers: Answers, suite: Suite, scorer: ScorerModel, contaminated: Contaminated) -> list[Record]:
    """Records of ``openings``: each completion with its prompt, closed, scored by the scorer model."""
    write = Recorder(answers.model, answers.weights, contaminated)
    end = scorer.encoder.document_end
    documents = [[*s.prompt, *s.tokens, *([] if s.tokens[-1] == end else [end])] for s in answers.completions]
    identity = suite.openings.id
    return [
        write(suite.openings, identity, item, sampled.text, sampled.text.strip(), value, sampled.logprobs)
        for item, sampled, value in zip(suite.openings.items, answers.completions, scorer.scores(documents), strict=True)
    ]


def _validation_loss(subject: Subject, suite: Suite, write: Recorder) -> list[Record]:
    benchmark, identity = suite.validation_loss, suite.validation_loss.id
    means = subject.row_logprobs(suite.rows)
    return [write(benchmark, identity, item, "", "", mean, [mean]) for item, mean in zip(benchmark.items, means, strict=True)]


def _held_out_text(subject: Subject, benchmark: Benchmark, write: Recorder) -> list[Record]:
    """Score of a text: minus its nats a byte."""
    identity = benchmark.id
    nats = subject.nats_per_byte([benchmark.prompt_of(item) for item in benchmark.items])
    return [write(benchmark, identity, item, "", "", -value, []) for item, value in zip(benchmark.items, nats, strict=True)]


def _last_word(subject: Subject, benchmark: Benchmark, write: Recorder) -> tuple[list[Record], list[float]]:
    """The word generated (judged as text) and the log-likelihood of the right one."""
    identity = benchmark.id
    sampled = subject.complete([benchmark.prompt_of(item) for item in benchmark.items], benchmark.decoding)
    targets = [subject.encoder.ids(f" {item.target}") for item in benchmark.items]
    prefixes = [[subject.encoder.document_end, *subject.encoder.ids(benchmark.prompt_of(item))] for item in benchmark.items]
    likelihoods = subject.logprobs(prefixes, targets)
    records = []
    for item, drawn, logprobs in zip(benchmark.items, sampled, likelihoods, strict=True):
        parsed, score = benchmark.score(drawn.text, item)
        records.append(write(benchmark, identity, item, drawn.text, parsed, score, logprobs, "prompt cut" if drawn.cut else ""))
    return records, [-sum(logprobs) for logprobs in likelihoods]


def _toxicity(benchmark: Benchmark, completions: Sequence[Sampled], judge: AbuseModel, threshold: float, write: Recorder) -> list[Record]:
    identity = benchmark.id
    flags = toxic([sampled.text for sampled in completions], judge, threshold)
    return [
        write(benchmark, identity, item, sampled.text, "toxic" if flag else "", 1.0 - flag, sampled.logprobs)
        for item, sampled, flag in zip(benchmark.items, completions, flags, strict=True)
    ]


def _confidences(subject: Subject, suite: Suite, config: EvalsConfig) -> tuple[list[float], list[bool]]:
    """Next-token confidences at positions spread evenly over the rows."""
    rows = suite.rows[: config.calibration_rows]
    positions = np.linspace(0, rows.shape[1] - 1, config.calibration_positions + 2)[1:-1].astype(int)
    confidences: list[float] = []
    correct: list[bool] = []
    for position in positions.tolist():
        some, hits = subject.next_token(rows, int(position))
        confidences += some
        correct += hits
    return confidences, correct
