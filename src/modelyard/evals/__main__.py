"""``python -m modelyard.evals MODEL --benchmark NAME --data DIR [--limit N] --out RECORDS.jsonl``: one record an item, metrics beside them.

MODEL: a model directory of ours, a Hugging Face directory, ``models:/name@alias`` or ``models:/name/3`` of MLflow's registry, or
``http://host/v1#name`` of an OpenAI-compatible server. DIR: benchmark data as :mod:`modelyard.evals.catalog` reads it, or an ``s3://`` or
``hf://`` URL of one. This is the one place where the stage meets the outside world, so the one that imports adapters.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from modelyard import abuse
from modelyard.adapters.model_source import local_directory
from modelyard.config import ExecutionConfig
from modelyard.evals.asking import Model, Tools, ask
from modelyard.evals.benchmark import Benchmark, Record, write_records
from modelyard.evals.catalog import build, names
from modelyard.evals.endpoint import Endpoint
from modelyard.evals.subject import Subject
from modelyard.evals.summary import by_group, summarise

CACHE = Path(".modelyard/fetched")
MICRO_BATCH = 8


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0, or 2 after one line that says what is wrong."""
    options = parser().parse_args(arguments)
    if options.list:
        print("\n".join(names()))  # noqa: T201
        return 0
    try:
        lacking = [name for name in ("model", "benchmark", "data", "out") if getattr(options, name) is None]
        if lacking:
            raise ValueError(f"missing {', '.join(lacking)}; see --help")
        measure(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m modelyard.evals", description="Put a benchmark to a model.")
    made.add_argument("model", nargs="?", help="directory, models:/name@alias, or http://host/v1#name")
    made.add_argument("--benchmark", help="a name of --list, such as arc_easy, mmlu_virology, gsm8k")
    made.add_argument("--data", help="directory or URL of the benchmark data")
    made.add_argument("--limit", type=int, help="only the first N items")
    made.add_argument("--shots", type=int, help="examples in the prompt; default: the benchmark's own number")
    made.add_argument("--samples", type=int, help="outputs an item where text is generated (pass@k)")
    made.add_argument("--temperature", type=float, help="of generated text")
    made.add_argument("--seed", type=int, help="of generated text")
    made.add_argument("--judge", help="model that rates replies, given like MODEL")
    made.add_argument("--classifier", type=Path, help="directory with abuse.npz, for toxicity")
    made.add_argument("--screen", action="store_true", help="bfloat16 first, close decisions again in fp32")
    made.add_argument("--threads", type=int, default=2, help="CPU threads")
    made.add_argument("--out", type=Path, help="records, JSONL; metrics go to the same name with .metrics.json")
    made.add_argument("--list", action="store_true", help="print the benchmarks and stop")
    return made


def measure(options: argparse.Namespace) -> None:
    """Build the benchmark before the model is loaded, ask, write."""
    benchmark = build(options.benchmark, local_directory(options.data, CACHE / "data"), limit=options.limit, shots=options.shots)
    changed = {key: getattr(options, key) for key in ("samples", "temperature", "seed") if getattr(options, key) is not None}
    if changed and benchmark.decoding.max_new_tokens == 0:
        raise ValueError(f"{benchmark.name} generates nothing, so --{next(iter(changed))} has no meaning")
    benchmark = benchmark.model_copy(
        update={"decoding": type(benchmark.decoding).model_validate({**benchmark.decoding.model_dump(), **changed})}
    )
    if benchmark.decoding.samples > 1 and benchmark.decoding.temperature == 0:
        raise ValueError("several samples at temperature 0 are all the same; give --temperature")
    judge = opened(options.judge, options) if options.judge else None
    classifier = abuse.load(options.classifier) if options.classifier else None
    abusive = None if classifier is None else lambda text: classifier.probability(text) >= 0.5
    if classifier is not None:
        benchmark = benchmark.model_copy(update={"judge": classifier.identity})
    model = opened(options.model, options)
    started = time.monotonic()
    records = ask(model, benchmark, Tools(judge=judge, abusive=abusive))
    report(benchmark, records, time.monotonic() - started, options.out)


def opened(spec: str, options: argparse.Namespace) -> Model:
    """The model that ``spec`` names."""
    if spec.startswith(("http://", "https://")):
        return Endpoint(spec)
    directory = local_directory(spec, CACHE / "models")
    return Subject(spec, directory, ExecutionConfig(threads=options.threads), MICRO_BATCH, screen=options.screen)


def report(benchmark: Benchmark, records: Sequence[Record], seconds: float, out: Path) -> None:
    """Write records and metrics; print one line a metric."""
    write_records(out, records)
    found, groups = summarise(benchmark, records), by_group(records)
    summary = {
        "benchmark": benchmark.name,
        "benchmark_id": records[0].benchmark_id,
        "model": records[0].model,
        "weights": records[0].weights,
        "seconds": round(seconds, 3),
        "metrics": {name: value._asdict() for name, value in found.items()},
        "groups": {name: value._asdict() for name, value in groups.items()},
    }
    out.with_suffix(".metrics.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False), "utf-8")
    say = partial(print, flush=True)
    say(f"{benchmark.name} {records[0].benchmark_id}: {len(benchmark.items)} items in {seconds:.1f} s -> {out}")
    for name, value in found.items():
        say(f"  {name}: {value}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
