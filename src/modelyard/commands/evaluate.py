"""``python -m modelyard.commands.evaluate MODEL --benchmark NAME --data DIR [--limit N] --out RECORDS.jsonl``.

Writes one record an item and the metrics beside them. MODEL: a model directory of ours, a Hugging Face directory,
``models:/name@alias`` or ``models:/name/3`` of MLflow's registry, or ``http://host/v1#name`` of an
OpenAI-compatible server. ``--suite FILE`` in place of ``--benchmark`` runs many and writes into a directory;
``--benchmark exam`` reads an exam's own directory. DIR: benchmark data as :mod:`modelyard.evals.catalog`
reads it, or an ``s3://`` or ``hf://`` URL of one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from modelyard.adapters.mlflow.model_source import local_directory
from modelyard.arguments import at_least
from modelyard.config import complaint, load_config
from modelyard.evals import exams
from modelyard.evals.analyses import ANALYSES, spread
from modelyard.evals.asking import ask
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog import build, names
from modelyard.evals.suite import SuiteConfig, aspect_means, plan
from modelyard.evals.summary import by_group, summarise
from modelyard.evals.tools import Tools, bound
from modelyard.execution import ExecutionConfig
from modelyard.formats import abuse
from modelyard.formats.records import Record, write_records
from modelyard.model.asked import Decoding, Model
from modelyard.model.endpoint import Endpoint
from modelyard.model.subject import Subject
from modelyard.stats.estimate import Estimate

CACHE = Path(".modelyard/fetched")
say = partial(print, flush=True)
MICRO_BATCH = 8


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0, or 2 after one line that says what is wrong."""
    options = parser().parse_args(arguments)
    if options.list:
        print("\n".join(names()))  # noqa: T201
        return 0
    try:
        check(options)
        measure(options)
    except (ValueError, OSError) as error:
        print(f"error: {complaint(error)}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m modelyard.commands.evaluate", description="Put a benchmark to a model.")
    made.add_argument("model", nargs="?", help="directory, models:/name@alias, or http://host/v1#name")
    made.add_argument("--benchmark", help="a name of --list, such as arc_easy, mmlu_virology, gsm8k")
    made.add_argument("--suite", type=Path, help="a TOML file of many benchmarks, such as configs/evals/fathom.toml")
    made.add_argument("--analysis", choices=sorted(ANALYSES), help="variants of the benchmark, into a directory")
    made.add_argument("--data", help="directory or URL of the benchmark data")
    made.add_argument("--limit", type=int, help="at most N items, a sample in which every subject has its share")
    made.add_argument("--shots", type=int, help="examples in the prompt; default: the benchmark's own number")
    made.add_argument("--samples", type=at_least(1, int), help="outputs an item where text is generated (pass@k)")
    made.add_argument("--temperature", type=float, help="of generated text")
    made.add_argument("--seed", type=int, help="of generated text")
    made.add_argument("--judge", help="model that rates replies, given like MODEL")
    made.add_argument("--classifier", type=Path, help="directory with abuse.npz, for toxicity")
    made.add_argument("--screen", action="store_true", help="bfloat16 first, close decisions again in fp32")
    made.add_argument("--threads", type=int, default=2, help="CPU threads")
    made.add_argument("--out", type=Path, help="records, JSONL; metrics go to the same name with .metrics.json; a directory for a suite")
    made.add_argument("--list", action="store_true", help="print the benchmarks and stop")
    return made


def check(options: argparse.Namespace) -> None:
    """Refuse options that do not go together and an ``--out`` that cannot be written, before anything is asked. Raises ValueError, OSError."""
    if lacking := [name for name in ("model", "--data", "--out") if getattr(options, name.strip("-")) is None]:
        raise ValueError(f"missing {', '.join(lacking)}; see --help")
    if (options.benchmark is None) == (options.suite is None):
        raise ValueError("exactly one of --benchmark and --suite is needed; see --help")
    if options.analysis:
        idle = [f"--{name}" for name in ("suite", "shots", "samples", "temperature", "seed") if getattr(options, name) is not None]
        if idle:
            raise ValueError(f"--analysis {options.analysis} sets its own variants; {idle[0]} has no meaning beside it")
    several = options.suite or options.analysis
    if not several and options.out.is_dir():
        raise ValueError(f"--out {options.out}: is a directory; one benchmark's records are a file")
    folder = options.out if several else options.out.parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def measure(options: argparse.Namespace) -> None:
    """Build the benchmarks before the model is loaded, ask, write."""
    data = local_directory(options.data, CACHE / "data")
    if options.suite or options.analysis:
        (measure_suite if options.suite else measure_variants)(options, data)
        return
    exam = exams.load(data) if options.benchmark == "exam" else None
    if exam is not None:
        benchmark = exams.benchmark_of(exam, data)
    else:
        benchmark = decoded(build(options.benchmark, data, limit=options.limit, shots=options.shots), options)
    records, _ = put(opened(options.model, options), benchmark, tools(options), options.out)
    if exam is not None:
        result = exams.grade_records(exam, records)
        say(f"  {result.points:g} points: score {result.score}, percentile {result.percentile_low:g} to {result.percentile_high:g}")


def measure_suite(options: argparse.Namespace, data: Path) -> None:
    """Every benchmark of a suite whose data is there; what is missing is said, on the screen and in ``suite.json``."""
    suite = load_config(SuiteConfig, options.suite)
    planned = plan(suite, data, options.limit)
    model, helpers = opened(options.model, options), tools(options)
    found: dict[str, Estimate] = {}
    missing = {entry.name: entry.missing for entry in planned if entry.missing}
    for entry in planned:
        if entry.benchmark is None:
            continue
        try:
            _, metrics = put(model, decoded(entry.benchmark, options, strict=False), helpers, options.out / f"{entry.name}.jsonl")
            found[entry.name] = next(iter(metrics.values()))
        except ValueError as error:
            missing[entry.name] = str(error)
    for name, reason in missing.items():
        say(f"not measured: {name}: {reason}")
    means = aspect_means(planned, found)
    for aspect, line in means.items():
        say(f"{aspect}: {line}")
    summary = {
        "suite": suite.name,
        "aspects": means,
        "scores": {name: value.plain() for name, value in found.items()},
        "missing": missing,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "suite.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False), "utf-8")


def measure_variants(options: argparse.Namespace, data: Path) -> None:
    """Every variant of an analysis; scores and spread go to ``NAME-analysis.json``, which :mod:`modelyard.evals.page` shows."""
    variants = ANALYSES[options.analysis](options.benchmark, data, options.limit)
    model, helpers = opened(options.model, options), tools(options)
    scores: dict[str, Estimate] = {}
    for label, benchmark in variants.items():
        say(f"{label}:")
        out = options.out / f"{options.analysis}-{label.replace(' ', '-')}.jsonl"
        scores[label] = next(iter(put(model, benchmark, helpers, out)[1].values()))
    between = spread(scores)
    say(f"spread: {between.lowest:.4f} to {between.highest:.4f}, standard deviation {between.deviation:.4f} between variants")
    summary = {
        "analysis": options.analysis,
        "benchmark": options.benchmark,
        "scores": {label: score.plain() for label, score in scores.items()},
        "spread": between._asdict(),
    }
    (options.out / f"{options.analysis}-analysis.json").write_text(json.dumps(summary, indent=1), "utf-8")


def decoded(benchmark: Benchmark, options: argparse.Namespace, strict: bool = True) -> Benchmark:
    """The benchmark with the decoding that the command asks for. Raises ValueError where that has no meaning (unless not ``strict``)."""
    changed = {key: getattr(options, key) for key in ("samples", "temperature", "seed") if getattr(options, key) is not None}
    if benchmark.decoding.max_new_tokens == 0:
        if changed and strict:
            raise ValueError(f"{benchmark.name} generates nothing, so --{next(iter(changed))} has no meaning")
        return benchmark
    decoding = Decoding.model_validate({**benchmark.decoding.model_dump(), **changed})
    if decoding.samples > 1 and decoding.temperature == 0:
        raise ValueError("several samples at temperature 0 are all the same; give --temperature")
    return benchmark.model_copy(update={"decoding": decoding})


def tools(options: argparse.Namespace) -> Tools:
    """The judge and the classifier, where they are given."""
    judge = opened(options.judge, options) if options.judge else None
    return Tools(judge=judge, classifier=abuse.load(options.classifier) if options.classifier else None)


def put(model: Model, benchmark: Benchmark, helpers: Tools, out: Path) -> tuple[list[Record], dict[str, Estimate]]:
    """Ask, write and report one benchmark."""
    started = time.monotonic()
    benchmark = bound(benchmark, helpers)
    records = ask(model, benchmark, helpers)
    return records, report(benchmark, records, time.monotonic() - started, out)


def opened(spec: str, options: argparse.Namespace) -> Model:
    """The model that ``spec`` names."""
    if spec.startswith(("http://", "https://")):
        return Endpoint(spec)
    directory = local_directory(spec, CACHE / "models")
    return Subject.open(spec, directory, ExecutionConfig(threads=options.threads), MICRO_BATCH, screen=options.screen)


def report(benchmark: Benchmark, records: Sequence[Record], seconds: float, out: Path) -> dict[str, Estimate]:
    """Write records and metrics; print one line a metric."""
    found, groups = summarise(benchmark, records), by_group(records)
    write_records(out, records)
    summary = {
        "benchmark": benchmark.name,
        "benchmark_id": records[0].benchmark_id,
        "model": records[0].model,
        "weights": records[0].weights,
        "seconds": round(seconds, 3),
        "metrics": {name: value.plain() for name, value in found.items()},
        "groups": {name: value.plain() for name, value in groups.items()},
    }
    out.with_name(out.name.removesuffix(".jsonl") + ".metrics.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False), "utf-8")
    say(f"{benchmark.name} {records[0].benchmark_id}: {len(benchmark.items)} items in {seconds:.1f} s -> {out}")
    for name, value in found.items():
        say(f"  {name}: {value}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
