"""``modelyard eval``: put a benchmark, a suite of them, or the variants of an analysis to a model.

MODEL: a model directory of ours, a Hugging Face directory, ``models:/name@alias`` or ``models:/name/3`` of MLflow's
registry, or ``http://host/v1#name`` of an OpenAI-compatible server. DATA: benchmark data as
:mod:`modelyard.evals.catalog` reads it, or an ``s3://`` or ``hf://`` URL of one; for ``--benchmark exam`` an exam's
own directory. A ``--benchmark`` that ends with ``.toml`` is a file with one table of ``[evals.benchmarks]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from modelyard.commands.command import say
from modelyard.commands.numbers import at_least, between, share_or_number
from modelyard.commands.outputs import require_directory

MODEL = typer.Argument(help="Directory, models:/name@alias, or http://host/v1#name.", show_default=False)
BENCHMARK = typer.Option(help="A name of --list, such as arc_easy, mmlu_virology, gsm8k, or a TOML file of your own.")
SUITE = typer.Option(help="A TOML file of many benchmarks, such as configs/evals/fathom.toml.")
ANALYSIS = typer.Option(help="Variants of the benchmark, into a directory: orders, shots, templates, seeds and so on.")
LIMIT = typer.Option(
    help="At most N items, or a share below 1: a sample in which every subject has its share.", metavar="N", callback=share_or_number
)
SAMPLE_SEED = typer.Option(help="Of the sample that --limit draws.", callback=at_least(0))
SHOTS = typer.Option(help="Examples in the prompt; without it, the benchmark's own number.")
SAMPLES = typer.Option(help="Outputs an item where text is generated (pass@k).", callback=at_least(1))
NEW_TOKENS = typer.Option(help="Longest output, where text is generated.", callback=at_least(1))
CHAT = typer.Option("--chat/--plain", help="Ask through the model's chat template, or as plain text; without it, as the benchmark does.")
CHOOSE_BY = typer.Option(help="Multiple choice: the likeliest option, or the letter of a generated reply.")
JUDGE_CHAT = typer.Option("--judge-chat", help="Ask the judge through its chat template.")
JUDGE_CHOOSE_BY = typer.Option(help="The grading judge's likeliest letter, or the letter that its reply names.")
JUDGE_SHOTS = typer.Option(help="Prompts of a rubric whose labelled responses the grading judge is shown.", callback=at_least(0))
GRADER = typer.Option("--grader", help="Rubrics that grade replies, such as configs/rubrics/true.toml.", metavar="RUBRIC.toml...")
ISOLATION = typer.Option(help="Of generated code: namespaces, or on machines without them a filter of system calls alone.")
PRECISION = typer.Option(help="Of weights and of all that is computed; without it the model's own, likelihoods always in fp32.")
CLASSIFIER = typer.Option(help="Directory with abuse.npz, for toxicity.")
LARGEST_SEED = 2**63 - 1
"""torch's."""
OUT = typer.Option(help="Records, JSONL; metrics go to the same name with .metrics.json. A directory for a suite or an analysis.")


class Options(NamedTuple):
    """What is asked of which model; the fields are the command's options."""

    model: str
    benchmark: str | None
    suite: Path | None
    analysis: str | None
    data: str
    limit: float | None
    sample_seed: int
    shots: int | None
    samples: int | None
    max_new_tokens: int | None
    temperature: float | None
    seed: int | None
    chat: bool | None
    choose_by: Literal["likelihood", "letter"] | None
    judge: str | None
    judge_chat: bool
    judge_choose_by: Literal["likelihood", "letter"]
    judge_shots: int
    grader: tuple[Path, ...]
    classifier: Path | None
    isolation: Literal["namespaces", "seccomp", "available"]
    screen: bool
    precision: Literal["fp32", "bf16"] | None
    threads: int
    out: Path


def evaluate(
    model: Annotated[str | None, MODEL] = None,
    benchmark: Annotated[str | None, BENCHMARK] = None,
    suite: Annotated[Path | None, SUITE] = None,
    analysis: Annotated[str | None, ANALYSIS] = None,
    data: Annotated[str | None, typer.Option(help="Directory or URL of the benchmark data.")] = None,
    limit: Annotated[float | None, LIMIT] = None,
    sample_seed: Annotated[int, SAMPLE_SEED] = 0,
    shots: Annotated[int | None, SHOTS] = None,
    samples: Annotated[int | None, SAMPLES] = None,
    max_new_tokens: Annotated[int | None, NEW_TOKENS] = None,
    temperature: Annotated[float | None, typer.Option(help="Of generated text.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of generated text.", callback=between(0, LARGEST_SEED))] = None,
    chat: Annotated[bool | None, CHAT] = None,
    choose_by: Annotated[Literal["likelihood", "letter"] | None, CHOOSE_BY] = None,
    judge: Annotated[str | None, typer.Option(help="Model that rates replies, given like MODEL.")] = None,
    judge_chat: Annotated[bool, JUDGE_CHAT] = False,
    judge_choose_by: Annotated[Literal["likelihood", "letter"], JUDGE_CHOOSE_BY] = "likelihood",
    judge_shots: Annotated[int, JUDGE_SHOTS] = 0,
    grader: Annotated[list[Path] | None, GRADER] = None,
    classifier: Annotated[Path | None, CLASSIFIER] = None,
    isolation: Annotated[Literal["namespaces", "seccomp", "available"], ISOLATION] = "namespaces",
    screen: Annotated[bool, typer.Option("--screen", help="bfloat16 first, close decisions again in fp32.")] = False,
    precision: Annotated[Literal["fp32", "bf16"] | None, PRECISION] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    out: Annotated[Path | None, OUT] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the benchmarks and stop.")] = False,
) -> None:
    """Put a benchmark to a model: one record an item, and the metrics with their uncertainty.

    MODEL, --data, --out and one of --benchmark and --suite are needed, unless --list is given.
    """
    if list_:
        from modelyard.evals.catalog import names

        say("\n".join(names()))
        return
    given = {"model": model, "--data": data, "--out": out}
    if model is None or data is None or out is None:
        raise ValueError(f"missing {', '.join(name for name, value in given.items() if value is None)}; see --help")
    options = Options(
        model=model,
        benchmark=benchmark,
        suite=suite,
        analysis=analysis,
        data=data,
        limit=limit,
        sample_seed=sample_seed,
        shots=shots,
        samples=samples,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        chat=chat,
        choose_by=choose_by,
        judge=judge,
        judge_chat=judge_chat,
        judge_choose_by=judge_choose_by,
        judge_shots=judge_shots,
        grader=tuple(grader or ()),
        classifier=classifier,
        isolation=isolation,
        screen=screen,
        precision=precision,
        threads=threads,
        out=out,
    )
    check(options)

    from modelyard.commands.evaluate import measure

    measure(options)


def idle_beside(options: Options) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """What was asked for, what it says by itself, and the options that would therefore be passed over."""
    if options.analysis:
        settable = ("suite", "shots", "samples", "temperature", "seed", "max_new_tokens", "grader")
        yield f"--analysis {options.analysis}", "sets its own variants", settable
    if options.suite:
        yield "--suite", "says in its file how each benchmark is asked", ("shots", "grader")
    if options.benchmark == "exam":
        names = ("limit", "shots", "samples", "max_new_tokens", "temperature", "seed", "grader")
        yield "--benchmark exam", "says in the exam's own file how it is asked", names
    if (options.benchmark or "").endswith(".toml"):
        yield f"--benchmark {options.benchmark}", "says in its file who grades", ("grader",)


def check(options: Options) -> None:
    """Refuse options that do not go together and an ``--out`` that cannot be written, before anything is asked. Raises ValueError, OSError."""
    if (options.benchmark is None) == (options.suite is None):
        raise ValueError("exactly one of --benchmark and --suite is needed; see --help")
    for what, why, names in idle_beside(options):
        if idle := [name for name in names if getattr(options, name) not in (None, ())]:
            raise ValueError(f"{what} {why}; --{idle[0].replace('_', '-')} has no meaning beside it")
    if options.sample_seed and options.limit is None:
        raise ValueError("--sample-seed is of the sample that --limit draws; it has no meaning without it")
    if options.precision and options.model.startswith(("http://", "https://")):
        raise ValueError("--precision: a server computes as it was started; it has no meaning for one")
    if options.screen and options.precision == "bf16":
        raise ValueError("--screen decides close calls in fp32; it has no meaning beside --precision bf16")
    several = options.suite or options.analysis
    if not several and options.out.is_dir():
        raise ValueError(f"--out {options.out}: is a directory; one benchmark's records are a file")
    require_directory(options.out if several else options.out.parent)
