"""The evals stage: base, SFT model and policy answer the same benchmarks, and production answers them again.

Every benchmark of the ``benchmarks`` artifact is put to every model of the inputs; where there are packed tokens, so
are the loss and the next-token confidence on them. Completions that a scorer model judges, which PPO never saw, are
also compared between models: win rates over SFT and base, and KL(policy || SFT) a sequence. Everything comes with n,
interval, and over clean and contaminated items apart (GPT-4 report, appendix C). Models are loaded one after another.
With the policy as the only model it is production that is measured: by what any model can be asked, whatever its
tokenizer. Benchmarks with images are put to the models that are shown images, and to the twin that never saw one with every image
grey, as it was trained. What a model said to a benchmark is kept as it comes (:meth:`modelyard.model.subject.Subject.keep`), and what the judge
says of it; a stage that was killed asks for the rest. Base, SFT model and twins are measured once, before any policy (the stage ``before``,
which is this one without the policy): every policy of a line finds their records there, and only KL still needs the SFT model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist

from modelyard.evals import pairs
from modelyard.evals.asking import drawn
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.methods import ask
from modelyard.evals.prepare import MICRO_BATCH, Stage, prepared
from modelyard.evals.remembered import Remembered
from modelyard.evals.results_artifact import Found, Records, write
from modelyard.evals.reviewed import grader_agreement
from modelyard.evals.suite import EvalsConfig
from modelyard.evals.summary import in_parts, shares
from modelyard.execution import ExecutionConfig
from modelyard.formats.records import Record
from modelyard.formats.results import ends_with_feedme, read_results
from modelyard.judges.agreement import Agreement
from modelyard.judges.record import read_graders, write_graders
from modelyard.model.network import parallel
from modelyard.model.subject import Subject
from modelyard.progress import Report

BLIND = "no_vision"
"""The twin that was trained with every image grey, and is asked so."""
OTHERS = ("sft", "base")
START = "sft_start"
"""The SFT model that PPO started from, where that is another than the one that the policy is compared with: KL is to it."""


def run(
    config: EvalsConfig,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path,
    execution: ExecutionConfig,
    report: Report,
) -> dict[str, float]:
    """Measure the models among ``inputs``; runs on every rank, rank 0 writes ``out``.

    Args:
        config: what is measured.
        inputs: ``benchmarks`` and ``contamination``; the models, any of base, no_contam, sft, policy and no_vision; what judging needs:
            ``scorer``, the ``corpus`` with its classifier of abuse, ``judge`` (default: sft) for a judge of kind
            ``policy``; ``sft_start`` where PPO started from another SFT model, to which KL is then measured;
            ``tokens`` where the models share its tokenizer; ``before``: results of all but the policy, which are not asked again.
        out: the results artifact.
        checkpoints: keeps what the models said.
        execution: where it runs.
        report: hears how many items are done.

    Raises:
        ValueError: tokenizers differ, something that judges a benchmark is missing, or ``before`` is of another SFT model or other
            benchmarks.
    """
    parallel.initialize(execution)
    stage = prepared(config, inputs, execution, checkpoints)
    known = measured_before(stage, inputs)
    total = (len(stage.models) - len(known.records)) * sum(len(benchmark.items) for benchmark in stage.benchmarks)
    done = 0

    def tick(benchmark: Benchmark) -> None:
        nonlocal done
        done += len(benchmark.items)
        report(done, total, unit="item")

    weights, answers, sums = answered(stage, known, inputs, checkpoints, execution, tick)
    found = measured(stage, answers, sums, config.seed)
    rubrics = [rubric for benchmark in stage.benchmarks for rubric in benchmark.graders]
    graders = known.graders or grader_agreement(rubrics, stage.tools.sorter, config.seed)  # every rank asks
    if dist.get_rank() == 0:
        write(out, stage, answers, found, weights, graders)
        if graders:
            write_graders(out, graders)
    kappas = {f"evals/graders/{one.rubric.split('-')[0]}/kappa": one.kappa for one in graders}
    return {**kappas, **{key: value for name, estimate in found.metrics.items() for key, value in estimate.flat(name).items()}}


class Answered(NamedTuple):
    """What the models said."""

    weights: dict[str, str]
    """Model -> fingerprint of what answered."""
    records: dict[str, Records]
    sums: dict[str, dict[str, list[float]]]
    """Model -> benchmark -> log p of the policy's completions."""


class Before(NamedTuple):
    """What was measured before the policy."""

    weights: Mapping[str, str]
    records: Mapping[str, Records]
    graders: Sequence[Agreement]


def measured_before(stage: Stage, inputs: Mapping[str, Path]) -> Before:
    """The records of the input ``before``; nothing where there is none. Raises ValueError where it was asked something else."""
    if "before" not in inputs:
        return Before({}, {}, ())
    found = read_results(inputs["before"])
    ids, theirs = {one.name: one.id for one in stage.benchmarks}, {name: one.id for name, one in found.benchmarks.items()}
    if other := [name for name in ids | theirs if ids.get(name) != theirs.get(name)]:
        programs = any(one.name == other[0] and one.method == "code" for one in stage.benchmarks)
        why = ", unless its programs ran in another isolation: evals.sandbox.isolation can name one for all machines" if programs else ""
        raise ValueError(f"{inputs['before']}: {other[0]} is another benchmark than the one that the policy is asked{why}")
    of = {name: found.of(name) for name in stage.models if name in found.weights}
    records = {name: {one: [Record.model_validate(row) for row in rows] for one, rows in known.items()} for name, known in of.items()}
    return Before(found.weights, records, read_graders(inputs["before"]))


def answered(
    stage: Stage,
    known: Before,
    inputs: Mapping[str, Path],
    kept: Path,
    execution: ExecutionConfig,
    tick: Callable[[Benchmark], None],
) -> Answered:
    """Every benchmark put to every model that is not ``known``, one model in memory at a time; what the scorer model judges is judged when they
    are gone. ``kept`` has what they said."""
    found = Answered({}, {}, {})
    said: dict[str, Remembered] = {}

    def opened(name: str) -> Remembered:
        subject = Subject.open(name, inputs[name], execution, MICRO_BATCH)
        subject.keep(kept / f"{name}.jsonl")
        said[name] = Remembered(subject)
        if known.weights.get(name, said[name].weights) != said[name].weights:
            raise ValueError(f"{inputs['before']}: {name} has other weights than the model that the policy is compared with")
        return said[name]

    for name in stage.models:
        if name in known.records:
            found.weights[name], found.records[name] = known.weights[name], known.records[name]
            if compared := stage.compared(name):
                found.sums[name] = sums_of(opened(name), said, compared)
                said[name].close()
            continue
        model = opened(name)
        found.weights[name], found.records[name] = model.weights, asked_now(model, stage, tick)
        found.sums[name] = sums_of(model, said, stage.compared(name))
        model.close()
    if START in inputs and not ends_with_feedme(inputs):
        found.sums[START] = sums_of(opened(START), said, stage.compared("sft"))
        said[START].close()
    for name in stage.models:
        for benchmark in stage.judged_later if name not in known.records else ():
            found.records[name][benchmark.name] = asked(said[name], benchmark, stage)
            tick(benchmark)
    return found


def asked_now(model: Remembered, stage: Stage, tick: Callable[[Benchmark], None]) -> Records:
    """The records of a model on all but what is judged later, of which only the texts are drawn."""
    records: Records = {}
    for benchmark in stage.asked_of(model):
        model.show(stage.images, benchmark.blank or model.name == BLIND)
        if benchmark in stage.judged_later:
            model.prepare(benchmark.chat, [benchmark.prompt_of(item) for item in benchmark.items])
            drawn(model, benchmark)
        else:
            records[benchmark.name] = asked(model, benchmark, stage)
            tick(benchmark)
    return records


def sums_of(model: Remembered, said: Mapping[str, Remembered], benchmarks: Sequence[Benchmark]) -> dict[str, list[float]]:
    """Benchmark -> log p of the policy's completions under ``model``."""
    return {one.name: model.sums(pairs.completions(said["policy"], one)) for one in benchmarks}


def asked(model: Remembered, benchmark: Benchmark, stage: Stage) -> list[Record]:
    """The records of a model on a benchmark."""
    return ask(model, benchmark, stage.tools, stage.contaminated.get(benchmark.name, ()))


def measured(stage: Stage, answers: Mapping[str, Records], sums: Mapping[str, Mapping[str, Sequence[float]]], seed: int) -> Found:
    """Every metric of every model, and the policy beside the others, whose records are added to ``answers``; ``sums``:
    model -> benchmark -> log p of the policy's completions."""
    found = Found({}, set())
    for name, records in answers.items():
        for benchmark in [one for one in stage.benchmarks if one.name in records]:
            estimates = in_parts(benchmark, records[benchmark.name], seed)
            found.add(f"evals/{name}/{benchmark.name}", estimates, shares(benchmark, estimates))
    for benchmark in stage.judged_later if "policy" in answers else ():
        prefix = f"evals/policy/{benchmark.name}"
        assert stage.tools.scorer, "a benchmark of method scalar is bound to a scorer model"
        precision = stage.tools.scorer.precision
        for other in [name for name in OTHERS if name in answers]:
            rows = pairs.wins(benchmark, answers["policy"][benchmark.name], answers[other][benchmark.name], other, precision)
            answers["policy"][f"{benchmark.name}_over_{other}"] = rows
            rates = pairs.win_rates(rows, other)
            found.add(prefix, rates, list(rates))
        if "sft" in answers:
            reference = sums.get(START, sums["sft"])  # what PPO was held to
            rows = pairs.with_sums(answers["policy"][benchmark.name], sums["policy"][benchmark.name], reference[benchmark.name])
            answers["policy"][benchmark.name] = rows
            if kl := pairs.distance_of(rows, seed):
                found.add(prefix, {"kl_to_sft": kl}, [])
    return found
