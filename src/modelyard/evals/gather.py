"""The benchmarks stage: every benchmark of a line as a value, read once and for all.

``benchmarks/{name}.json`` is the value, which the evals stage puts to models; ``questions/{name}.jsonl`` is what the
contamination check looks for in training sets; ``images/`` holds the images that items name. What is in an artifact is
found by its content, not by where its files lay: its config is :func:`defined` with the hashes of what was read. The
continuations stage writes what a ladder asks its runs, as texts alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field, TypeAdapter

from modelyard.config import Config, digest
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.likelihoods import continuations, one_text_is_right
from modelyard.evals.sets import SetsConfig, build
from modelyard.formats import json_file, stored_images
from modelyard.formats.continuations import Continuation, write_continuations
from modelyard.formats.questions import Question, write_questions
from modelyard.progress import Report

FOLDER, ORDER = "benchmarks", "order.json"


class GatherConfig(SetsConfig):
    """What the stage builds."""

    context: int = Field(ge=3)
    """Tokens that the line's models read: a benchmark whose output leaves no room for a prompt is refused."""


class Gathered(GatherConfig):
    """What defines the artifact: the config, and what its files held."""

    contents: dict[str, str]
    """Benchmark -> hash of its value."""


def defined(config: GatherConfig, artifacts: Sequence[Path], roots: Sequence[str]) -> Gathered:
    """The config with the contents of all files. Raises ValueError as :func:`run`."""
    return Gathered(**dict(config), contents={one.name: digest(one) for one in _all(config, artifacts, roots)})


def run(config: GatherConfig, inputs: Mapping[str, Path], out: Path, report: Report, roots: Sequence[str]) -> dict[str, float]:
    """Write every benchmark; ``inputs`` are artifacts that may carry sets (held_out, feedback), and a relative path of a user's
    file is looked for below each of ``roots``.

    Raises:
        ValueError: the data of a benchmark are missing or cannot be used, or its output leaves no room for a prompt.
    """
    metrics: dict[str, float] = {}
    (out / FOLDER).mkdir()
    made = _all(config, list(inputs.values()), roots)
    for done, benchmark in enumerate(made, 1):
        (out / FOLDER / f"{benchmark.name}.json").write_text(benchmark.model_dump_json(), "utf-8")
        questions = (Question(id=item.id, text=benchmark.question_of(item), images=item.images) for item in benchmark.items)
        write_questions(out, benchmark.name, questions)
        metrics[f"benchmarks/{benchmark.name}/items"] = len(benchmark.items)
        stored_images.write(out, (benchmark.pictures[image] for image in benchmark.image_ids), benchmark.name)
        report(done, len(made), unit="benchmark")
    (out / ORDER).write_text(json.dumps([benchmark.name for benchmark in made]), "utf-8")
    return {"benchmarks/all/items": sum(metrics.values()), **metrics}


class Texts(Config):
    """What defines the continuations: the texts alone, however they came about."""

    contents: dict[str, str]
    """Benchmark -> hash of its prompts and right texts."""


def defined_by_texts(config: GatherConfig, artifacts: Sequence[Path], roots: Sequence[str]) -> Texts:
    """The hashes of what :func:`run_continuations` writes. Raises ValueError as it does."""
    return Texts(contents={name: digest(texts) for name, texts in _texts(config, artifacts, roots).items()})


def run_continuations(
    config: GatherConfig, inputs: Mapping[str, Path], out: Path, report: Report, roots: Sequence[str]
) -> dict[str, float]:
    """Write the prompts of every benchmark and the text that is right after each, for models that are no line's own yet.

    Raises:
        ValueError: as :func:`run`, or a benchmark has no single right text.
    """
    metrics: dict[str, float] = {}
    for name, texts in _texts(config, list(inputs.values()), roots).items():
        write_continuations(out, name, texts)
        metrics[f"continuations/{name}/items"] = len(texts)
    return {"continuations/all/items": sum(metrics.values()), **metrics}


def _texts(config: GatherConfig, artifacts: Sequence[Path], roots: Sequence[str]) -> dict[str, list[Continuation]]:
    made = _all(config, artifacts, roots)
    if unfit := [one.name for one in made if not one_text_is_right(one)]:
        raise ValueError(
            f"forecast.benchmarks: {unfit[0]!r} has no text that is right after its prompt, whose probability small runs could be asked for; "
            "last words and options of text have"
        )
    return {one.name: continuations(one) for one in made}


def load(directory: Path) -> list[Benchmark]:
    """The benchmarks of an artifact, in the config's order. Raises ValueError naming the file that is none."""
    shape = TypeAdapter(Benchmark)
    return [json_file.read(directory / FOLDER / f"{name}.json", shape) for name in json_file.load(directory / ORDER)]


def _all(config: GatherConfig, artifacts: Sequence[Path], roots: Sequence[str]) -> list[Benchmark]:
    made = [build(one, config, artifacts, roots) for one in config.benchmarks]
    for benchmark in made:
        if (tokens := benchmark.decoding.max_new_tokens) + 2 > config.context:
            raise ValueError(
                f"evals.benchmarks.{benchmark.name}: max_new_tokens {tokens} leaves no room for a prompt in a model of "
                f"{config.context} tokens"
            )
    return made
