"""What ``modelyard eval`` does: open the model, ask it one benchmark, a suite or the variants of an analysis, write.

One record an item goes to a file of JSON lines, the metrics beside it.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from modelyard.adapters.mlflow.model_source import local_directory
from modelyard.commands.answered_before import earlier
from modelyard.commands.eval import Options
from modelyard.commands.eval_decoding import decoded
from modelyard.commands.eval_report import report, sample_of
from modelyard.commands.eval_suite import Asked
from modelyard.commands.judge import open_rubric
from modelyard.config import load_config, read_tree
from modelyard.evals import exams, ways
from modelyard.evals.analyses import ANALYSES, spread
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog import build
from modelyard.evals.methods import ask
from modelyard.evals.reviewed import graded_by, grader_agreement
from modelyard.evals.sets import BenchmarkConfig, SetsConfig
from modelyard.evals.sets import build as build_own
from modelyard.evals.suite import SuiteConfig, aspect_means, plan
from modelyard.evals.summary import summarise
from modelyard.evals.tools import SANDBOX, Tools, bound
from modelyard.execution import ExecutionConfig
from modelyard.formats import abuse
from modelyard.formats.records import Record
from modelyard.formats.stored_images import Held
from modelyard.judges.agreement import Agreement
from modelyard.judges.judge import Judge, by_default
from modelyard.model.asked import InChat, Model
from modelyard.model.endpoint import Endpoint
from modelyard.model.subject import Subject
from modelyard.stats.estimate import Estimate

CACHE = Path(".modelyard/fetched")
say = partial(print, flush=True)
MICRO_BATCH = 8
ORDERS = 4
"""In which a judge reads a rubric's options."""


def measure(options: Options) -> None:
    """Build the benchmarks before the model is loaded, ask, write."""
    if options.analysis and options.analysis not in ANALYSES:
        raise ValueError(f"--analysis {options.analysis}: not known; there are {', '.join(sorted(ANALYSES))}")
    data = local_directory(options.data, CACHE / "data")
    if options.suite:
        measure_suite(options, options.suite, data)
        return
    assert options.benchmark is not None  # one of the two is given
    if options.analysis:
        measure_variants(options, options.analysis, options.benchmark, data)
        return
    if options.benchmark == "exam":
        measure_exam(options, data)
        return
    plain = named(options.benchmark, data, options)
    benchmark = decoded(ways.asked(plain, options.choose_by, options.chat), options)
    put(opened(options.model, options), benchmark, tools(options), options.out, options)


def measure_exam(options: Options, data: Path) -> None:
    """Every section, the score and its percentiles; sections of free response lie beside those of choices, as ``NAME-free.jsonl``."""
    exam = exams.load(data)
    benchmarks = exams.benchmarks_of(exam, data)
    model, helpers = opened(options.model, options), tools(options)
    records: list[Record] = []
    errors: list[Agreement] = []
    for benchmark in [bound(one, helpers) for one in benchmarks]:
        free = benchmark.method == "graded"
        out = (
            options.out.with_name(f"{options.out.name.removesuffix('.jsonl')}-free.jsonl") if free and len(benchmarks) > 1 else options.out
        )
        asked = benchmark if free else ways.asked(benchmark, options.choose_by, options.chat)
        measured = put(model, asked, helpers, out, options)
        records += measured.records
        errors += measured.graders
    result = exams.grade_records(exam, records)
    say(f"  {result.points:g} points: score {result.score}, percentile {result.percentile_low:g} to {result.percentile_high:g}")
    for one in errors:
        say(f"  {exams.grading_error(exam, one)}")


def named(benchmark: str, data: Path, options: Options) -> Benchmark:
    """A benchmark by its name, or as a TOML file describes it: a table of ``[evals.benchmarks]`` with its name, its files beside it."""
    if not benchmark.endswith(".toml"):
        built = build(benchmark, data, limit=options.limit, shots=options.shots, seed=options.sample_seed)
        return graded_by(built, [open_rubric(path) for path in options.grader]) if options.grader else built
    if "evals" in read_tree(Path(benchmark)):
        raise ValueError(
            f"{benchmark}: [evals.benchmarks.NAME] is of a line; a benchmark's own file has name, file, prompt and answer at its top"
        )
    own = load_config(BenchmarkConfig, benchmark, [f"shots={options.shots}"] if options.shots is not None else [])
    sets = SetsConfig(seed=options.sample_seed, benchmarks=(own,), limit=options.limit)
    return build_own(own, sets, (), (str(Path(benchmark).parent), str(data)))


def measure_suite(options: Options, file: Path, data: Path) -> None:
    """Every benchmark of a suite whose data is there; what is missing or failed is said, on the screen and in ``suite.json``.

    Raises:
        ServerError: a server did not answer; what it answered before is kept.
        ValueError: nothing was measured, or a benchmark could not be asked.
    """
    suite = load_config(SuiteConfig, file)
    if options.choose_by:
        suite = suite.model_copy(update={"choose_by": options.choose_by})
    planned = plan(suite, data, options.limit, file.parent, options.sample_seed)
    model, helpers = opened(options.model, options), tools(options)
    asked = Asked(missing={entry.name: entry.missing for entry in planned if entry.missing})
    for entry in planned:
        if entry.benchmark is not None:
            ask_one(model, entry.name, entry.benchmark, helpers, options, asked)
    for name, reason in (asked.missing | asked.failed).items():
        say(f"not measured: {name}: {reason}")
    means = aspect_means(planned, asked.found)
    for aspect, line in means.items():
        say(f"{aspect}: {line}")
    summary = {
        "suite": suite.name,
        "aspects": means,
        "scores": {name: value.plain() for name, value in asked.found.items()},
        "missing": asked.missing,
        "failed": asked.failed,
        **sample_of(options),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "suite.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False), "utf-8")
    asked.settle(suite.name)


def ask_one(model: Model, name: str, benchmark: Benchmark, helpers: Tools, options: Options, asked: Asked) -> None:
    """Put a suite's benchmark to the model, as far as it can be asked and the server still answers; what became of it goes to ``asked``."""
    try:
        chosen = options.choose_by if benchmark.method in ways.WITH_OPTIONS else None
        benchmark = bound(decoded(ways.asked(benchmark, chosen, options.chat), options, strict=False), helpers)
        if benchmark.seen:
            shown_to(model, benchmark)
    except ValueError as error:
        asked.missing[name] = str(error)
        return
    out = options.out / f"{name}.jsonl"
    try:
        found = primary_before(model, benchmark, out)
        if found is None and asked.silent:
            raise ValueError(f"not asked, since {asked.silent} was not answered")
        asked.found[name] = found or put(model, benchmark, helpers, out, options).primary
    except ValueError as error:
        asked.failed[name] = str(error)
        if isinstance(error, ConnectionError):
            asked.unanswered = asked.unanswered or name
        if isinstance(model, Endpoint) and model.silent(error):
            asked.silent = name


def primary_before(model: Model, benchmark: Benchmark, out: Path) -> Estimate | None:
    """The metric that stands for a bound benchmark of a suite of which an earlier run has left the records in ``out``."""
    records = earlier(out, model, benchmark)
    if records is None:
        return None
    found = summarise(benchmark, records)
    say(f"{benchmark.name} {benchmark.id}: answered before by the same weights -> {out}; without that file it is asked again")
    name, value = next(iter(found.items()))
    say(f"  {name}: {value}")
    return value


def measure_variants(options: Options, analysis: str, benchmark: str, data: Path) -> None:
    """Every variant of an analysis; scores and spread go to ``NAME-analysis.json``, which the command ``page`` shows."""
    found = ANALYSES[analysis](benchmark, partial(build, data=data, limit=options.limit, seed=options.sample_seed))
    variants = {
        label: ways.asked(one, None if is_letter(one, options) else options.choose_by, options.chat) for label, one in found.items()
    }
    model, helpers = opened(options.model, options), tools(options)
    scores: dict[str, Estimate] = {}
    for label, variant in variants.items():
        say(f"{label}:")
        out = options.out / f"{analysis}-{label.replace(' ', '-')}.jsonl"
        scores[label] = put(model, variant, helpers, out, options).primary
    between = spread(scores)
    say(f"spread: {between.lowest:.4f} to {between.highest:.4f}, standard deviation {between.deviation:.4f} between variants")
    summary = {
        "analysis": analysis,
        "benchmark": benchmark,
        "scores": {label: score.plain() for label, score in scores.items()},
        "spread": between._asdict(),
    }
    (options.out / f"{analysis}-analysis.json").write_text(json.dumps(summary, indent=1), "utf-8")


def is_letter(variant: Benchmark, options: Options) -> bool:
    """Whether a variant chooses by letter already, as is asked."""
    return options.choose_by == "letter" and variant.parser == "letter"


def tools(options: Options) -> Tools:
    """The judge and the classifier, where they are given."""
    judge = opened(options.judge, options) if options.judge else None
    asking = by_default(ORDERS, options.judge_shots, options.judge_chat, options.judge_choose_by)
    return Tools(
        sandbox=SANDBOX.model_copy(update={"isolation": options.isolation}),
        judge=InChat(judge) if judge and options.judge_chat else judge,
        sorter=Judge(judge, asking) if judge else None,
        classifier=abuse.load(options.classifier) if options.classifier else None,
    )


class Put(NamedTuple):
    """What one benchmark gave."""

    records: list[Record]
    metrics: dict[str, Estimate]
    graders: list[Agreement]
    """The judge beside people, for each rubric that graded."""

    @property
    def primary(self) -> Estimate:
        """The metric that stands for the benchmark."""
        return next(iter(self.metrics.values()))


def put(model: Model, benchmark: Benchmark, helpers: Tools, out: Path, options: Options) -> Put:
    """Ask, write and report one benchmark; what a server answers is kept in ``NAME.replies`` until the records are written."""
    started = time.monotonic()
    benchmark = bound(benchmark, helpers)
    if benchmark.seen:
        shown_to(model, benchmark)
    if isinstance(model, Endpoint):
        model.keep(out.with_name(f"{out.name.removesuffix('.jsonl')}.replies"))
    replies, no_letter = (helpers.sorter.replies, helpers.sorter.no_letter) if helpers.sorter else (0, 0)
    records = ask(model, benchmark, helpers)
    seconds = time.monotonic() - started
    graders = grader_agreement(benchmark.graders, helpers.sorter, seed=0)
    found = report(model, benchmark, records, graders, seconds, out, sample_of(options))
    if helpers.sorter and (said := helpers.sorter.replies - replies):
        say(f"  judge's replies without a letter: {helpers.sorter.no_letter - no_letter} of {said}")
    if isinstance(model, Endpoint):
        model.forget()
    return Put(records, found, graders)


def shown_to(model: Model, benchmark: Benchmark) -> None:
    """Let the model see the benchmark's images. Raises ValueError where it reads text only."""
    if not isinstance(model, Subject | Endpoint) or not model.sees:
        raise ValueError(f"{benchmark.name}: asks about images, and {model.name} reads text only")
    model.show(Held(benchmark.pictures), benchmark.blank)


def opened(spec: str, options: Options) -> Model:
    """The model that ``spec`` names."""
    if spec.startswith(("http://", "https://")):
        return Endpoint(spec)
    directory = local_directory(spec, CACHE / "models")
    return Subject.open(
        spec,
        directory,
        ExecutionConfig(threads=options.threads),
        MICRO_BATCH,
        screen=options.screen,
        precision=options.precision,
        products=options.precision or "fp32",
    )
