"""The benchmarks stage: every benchmark of a line as a value, read once and for all.

``benchmarks/{name}.json`` is the value, which the evals stage puts to models; ``questions/{name}.jsonl`` is what the
contamination check looks for in training sets. What is in an artifact is found by its content, not by where its files
lay: whoever builds it adds :func:`contents` to its config.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from modelyard.config import digest, first_error
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.sets import SetsConfig, build
from modelyard.formats import json_file
from modelyard.formats.questions import Question, write_questions
from modelyard.progress import Report

FOLDER, ORDER = "benchmarks", "order.json"


def contents(config: SetsConfig, corpus: Path | None, files: str) -> dict[str, str]:
    """Benchmark -> hash of its value. Raises ValueError as :func:`modelyard.evals.sets.build`."""
    return {benchmark.name: digest(benchmark) for benchmark in _all(config, corpus, files)}


def run(config: SetsConfig, inputs: Mapping[str, Path], out: Path, report: Report, files: str) -> dict[str, float]:
    """Write every benchmark; ``inputs`` may hold a corpus, ``files`` is where relative paths of a user's files start.

    Raises:
        ValueError: the data of a benchmark are missing or cannot be used.
    """
    metrics: dict[str, float] = {}
    (out / FOLDER).mkdir()
    made = _all(config, inputs.get("corpus"), files)
    for done, benchmark in enumerate(made, 1):
        (out / FOLDER / f"{benchmark.name}.json").write_text(benchmark.model_dump_json(), "utf-8")
        questions = (Question(id=item.id, text=benchmark.question_of(item)) for item in benchmark.items)
        write_questions(out, benchmark.name, questions)
        metrics[f"benchmarks/{benchmark.name}/items"] = len(benchmark.items)
        metrics[f"benchmarks/{benchmark.name}/new_tokens"] = benchmark.decoding.max_new_tokens
        report(done, len(made), unit="benchmark")
    (out / ORDER).write_text(json.dumps([benchmark.name for benchmark in made]), "utf-8")
    return metrics


def load(directory: Path) -> list[Benchmark]:
    """The benchmarks of an artifact, in the config's order. Raises ValueError naming the file that is none."""
    made = []
    for name in json_file.load(directory / ORDER):
        path = directory / FOLDER / f"{name}.json"
        try:
            made.append(Benchmark.model_validate(json_file.load(path)))
        except ValidationError as error:
            raise ValueError(f"{path}: {first_error(error)}") from None
    return made


def require_room(metrics: Mapping[str, float], seq_len: int) -> None:
    """Raise ValueError where a benchmark of the artifact with these metrics generates more than a context holds."""
    for key, tokens in metrics.items():
        _, name, what = key.split("/")
        if what == "new_tokens" and tokens + 2 > seq_len:
            raise ValueError(f"evals.benchmarks.{name}: max_new_tokens {tokens:g} leaves no room for a prompt in seq_len {seq_len}")


def _all(config: SetsConfig, corpus: Path | None, files: str) -> list[Benchmark]:
    return [build(one, config, corpus, files) for one in config.benchmarks]
