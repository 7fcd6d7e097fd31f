"""The evals stage: base, SFT model and policy answer the same benchmarks, and production answers them again.

Every benchmark of the ``benchmarks`` artifact is put to every model of the inputs; where there are packed tokens, so
are the loss and the next-token confidence on them. Completions that a scorer model judges, which PPO never saw, are
also compared between models: win rates over SFT and base, and KL(policy || SFT) a sequence. Everything comes with n,
interval, and over clean and contaminated items apart (GPT-4 report, appendix C). Models are loaded one after another.
With the policy as the only model it is production that is measured: by what any model can be asked, whatever its
tokenizer. Benchmarks with images are put to the models that are shown images, and to the twin that never saw one with every image
grey, as it was trained. Nothing is checkpointed: the stage is short.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist

from modelyard.evals import gather, packed, pairs
from modelyard.evals.asking import drawn
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.methods import ask
from modelyard.evals.metrics import by_item
from modelyard.evals.remembered import Remembered
from modelyard.evals.reviewed import grader_agreement
from modelyard.evals.scanner import scan
from modelyard.evals.suite import EvalsConfig
from modelyard.evals.summary import bins, described, in_parts, shares
from modelyard.evals.tools import Tools, bound
from modelyard.execution import ExecutionConfig
from modelyard.formats import abuse
from modelyard.formats.contamination import read_report
from modelyard.formats.images import data_url
from modelyard.formats.records import Record
from modelyard.formats.results import (
    Reliability,
    Reply,
    Shown,
    ends_with_feedme,
    write_answers,
    write_calibration,
    write_results,
    write_shown,
)
from modelyard.formats.results import measured as measured_models
from modelyard.formats.stored_images import ImageFiles
from modelyard.formats.token_rows import TokenRows
from modelyard.judges.agreement import Agreement
from modelyard.judges.judge import Judge
from modelyard.judges.open_judge import open_judge
from modelyard.judges.record import write_graders
from modelyard.judges.sandbox.run import run_programs
from modelyard.model import model_directory
from modelyard.model.asked import InChat, Sampled
from modelyard.model.encoder import Encoder
from modelyard.model.network import parallel
from modelyard.model.network.first_rank import on_first_rank
from modelyard.model.scorer_model import ScorerModel
from modelyard.model.subject import Subject
from modelyard.progress import Report
from modelyard.stats.estimate import Estimate
from modelyard.store.file_hash import sha256_tree

MODELS = ("policy", "sft", "base", "no_contam", "no_vision")
BLIND = "no_vision"
"""The twin that was trained with every image grey, and is asked so."""
OTHERS = ("sft", "base")
START = "sft_start"
"""The SFT model that PPO started from, where that is another than the one that the policy is compared with: KL is to it."""
MICRO_BATCH = 64
SAMPLES = 3
PICTURES = 8
"""Items of a benchmark whose images stand on the card."""
Records = dict[str, list[Record]]
"""Benchmark -> records, in the order of its items."""


class Stage(NamedTuple):
    """What is asked, of whom, and what judges."""

    models: tuple[str, ...]
    benchmarks: list[Benchmark]
    tools: Tools
    contaminated: Mapping[str, Collection[str]]
    """Benchmark -> items found in a training set."""
    images: ImageFiles
    """What the benchmarks' items show."""

    def asked_of(self, model: Remembered) -> list[Benchmark]:
        """The benchmarks that a model can answer: those with images only where it is shown any."""
        return [benchmark for benchmark in self.benchmarks if model.sees or not benchmark.seen]

    @property
    def judged_later(self) -> list[Benchmark]:
        """Benchmarks whose scorer model is loaded when the models are gone."""
        return [benchmark for benchmark in self.benchmarks if benchmark.method == "scalar"]

    def compared(self, model: str) -> list[Benchmark]:
        """Benchmarks on which the policy's completions are put to ``model``, for KL(policy || SFT)."""
        wanted = {"policy", "sft"} <= set(self.models) and model in ("policy", "sft")
        if hot := [one.name for one in self.judged_later if wanted and one.decoding.temperature != 1]:
            raise ValueError(f"{hot[0]}: KL is measured on its completions, so its temperature must be 1")
        return self.judged_later if wanted else []


class Found(NamedTuple):
    """What was measured."""

    metrics: dict[str, Estimate]
    shares: set[str]
    """Those that must lie in [0, 1]."""

    def add(self, prefix: str, estimates: Mapping[str, Estimate], bounded: Sequence[str]) -> None:
        """Metrics of one model on one benchmark."""
        self.metrics.update({f"{prefix}/{name}": estimate for name, estimate in estimates.items()})
        self.shares.update(f"{prefix}/{name}" for name in bounded)


class LateScorer:
    """A scorer model that is loaded when it is first asked."""

    def __init__(self, directory: Path, execution: ExecutionConfig) -> None:
        self.directory, self.execution = directory, execution
        self.weights = sha256_tree(directory / "checkpoint")
        self.precision = model_directory.read(directory).precision

    @cached_property
    def model(self) -> ScorerModel:
        """The model itself."""
        return ScorerModel(self.directory, self.execution, MICRO_BATCH)

    def completed(self, completions: Sequence[Sampled], chat: bool) -> list[float]:
        """Value of each prompt with its completion, closed where it was cut short as training closes texts and turns."""
        encoder = self.model.encoder
        end = encoder.turn_end if chat and encoder.template else encoder.document_end
        closed = [[*one.prompt, *one.tokens, *([] if one.tokens[-1] == end else [end])] for one in completions]
        return self.model.scores(closed)


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
            ``tokens`` where the models share its tokenizer.
        out: the results artifact.
        checkpoints: not used.
        execution: where it runs.
        report: hears how many items are done.

    Raises:
        ValueError: tokenizers differ, or something that judges a benchmark is missing.
    """
    parallel.initialize(execution)
    stage = prepared(config, inputs, execution)
    total = len(stage.models) * sum(len(benchmark.items) for benchmark in stage.benchmarks)
    done = 0

    def tick(benchmark: Benchmark) -> None:
        nonlocal done
        done += len(benchmark.items)
        report(done, total, unit="item")

    answers: dict[str, Records] = {}
    said: dict[str, Remembered] = {}
    sums: dict[str, dict[str, list[float]]] = {}
    for name in stage.models:
        model = said[name] = Remembered(Subject.open(name, inputs[name], execution, MICRO_BATCH))
        answers[name] = {}
        for benchmark in stage.asked_of(model):
            model.show(stage.images, benchmark.blank or name == BLIND)
            if benchmark in stage.judged_later:
                model.prepare(benchmark.chat, [benchmark.prompt_of(item) for item in benchmark.items])
                drawn(model, benchmark)
            else:
                answers[name][benchmark.name] = asked(model, benchmark, stage)
                tick(benchmark)
        sums[name] = {one.name: model.sums(pairs.completions(said["policy"], one)) for one in stage.compared(name)}
        model.close()
    if START in inputs and not ends_with_feedme(inputs):
        start = Remembered(Subject.open(START, inputs[START], execution, MICRO_BATCH))
        sums[START] = {one.name: start.sums(pairs.completions(said["policy"], one)) for one in stage.compared("sft")}
        start.close()
    for name in stage.models:
        for benchmark in stage.judged_later:
            answers[name][benchmark.name] = asked(said[name], benchmark, stage)
            tick(benchmark)
    found = measured(stage, answers, sums, config.seed)
    rubrics = [rubric for benchmark in stage.benchmarks for rubric in benchmark.graders]
    graders = grader_agreement(rubrics, stage.tools.sorter, config.seed)  # every rank asks
    if dist.get_rank() == 0:
        write(out, stage, answers, found, {name: model.weights for name, model in said.items()}, graders)
        if graders:
            write_graders(out, graders)
    kappas = {f"evals/graders/{one.rubric.split('-')[0]}/kappa": one.kappa for one in graders}
    return {**kappas, **{key: value for name, estimate in found.metrics.items() for key, value in estimate.flat(name).items()}}


def prepared(config: EvalsConfig, inputs: Mapping[str, Path], execution: ExecutionConfig) -> Stage:
    """The stage's benchmarks with the identity of what judges each, and the tools to judge by."""
    models = measured_models(MODELS, inputs)
    benchmarks = gather.load(inputs["benchmarks"])
    if models == ("policy",):
        benchmarks = [benchmark for benchmark in benchmarks if benchmark.of_text]
    rows = None
    if "tokens" in inputs:
        tokenizer = Encoder(inputs["tokens"])
        for role in (*models, *(["scorer"] if "scorer" in inputs else [])):
            tokenizer.require_same(role, inputs[role])
        rows = TokenRows(inputs["tokens"], "validation")[: config.validation_rows]
        benchmarks = [*packed.benchmarks(rows, config.calibration_rows, config.calibration_positions), *benchmarks]
    judge = opened(config, inputs, execution)
    tools = Tools(
        sandbox=config.sandbox,
        run=lambda programs, limits: on_first_rank(lambda: run_programs(programs, limits)),
        scan=lambda programs: on_first_rank(lambda: scan(programs)),
        judge=InChat(judge.model) if judge and judge.asking.chat else judge.model if judge else None,
        sorter=judge,
        classifier=abuse.load(inputs["corpus"]) if "corpus" in inputs else None,
        scorer=LateScorer(inputs["scorer"], execution) if "scorer" in inputs else None,
        rows=rows,
    )
    contaminated = {name: checked.content for name, checked in read_report(inputs["contamination"]).items()}
    stage = Stage(models, [bound(benchmark, tools) for benchmark in benchmarks], tools, contaminated, ImageFiles(inputs["benchmarks"]))
    stage.compared("policy")  # refuses before anything is asked
    return stage


def opened(config: EvalsConfig, inputs: Mapping[str, Path], execution: ExecutionConfig) -> Judge | None:
    """The judge; None where the config names none."""
    if config.judge is None:
        return None
    micro_batch, directory = config.judge.micro_batch, inputs.get("judge", inputs.get("sft"))
    if directory is None and config.judge.kind == "policy":
        raise ValueError("evals.judge: kind 'policy' is the SFT model, which is not among the inputs")
    return open_judge(config.judge, execution, lambda: Subject.open("sft", Path(directory or ""), execution, micro_batch))


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
