"""What judges beside parsers: sandbox, judging model, classifier, scorer model; and whose identity an id then holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from modelyard.config import digest
from modelyard.evals import scanner
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.scanner import Scanned
from modelyard.formats.abuse import AbuseModel
from modelyard.formats.token_rows import PackedRows
from modelyard.judges.judge import Judge, answering
from modelyard.judges.sandbox.run import Limits, Program, Verdict, resolved, run_programs
from modelyard.model.asked import Model, Sampled
from modelyard.model.network.first_rank import on_first_rank
from modelyard.stats.ties import Format

SANDBOX = Limits(wall_seconds=10.0, cpu_seconds=10, memory_bytes=1 << 30, file_bytes=1 << 24, processes=2)
"""What generated code may use where nothing else is said."""
TOXIC = 0.5
"""Probability of abuse from which a text is toxic."""


JUDGED = ("code", "judge", "turns", "toxicity", "scalar", "scan", "graded")
"""Methods whose scores are somebody else's."""


class Values(Protocol):
    """A scorer model: a value for a whole text."""

    weights: str
    precision: Format
    """Of its arithmetic: values closer than its rounding tie."""

    def completed(self, completions: Sequence[Sampled], chat: bool) -> list[float]:
        """Value of each prompt with its completion; ``chat``: they are turns of conversations."""
        ...


class Tools(NamedTuple):
    """What judging may need beside the model."""

    sandbox: Limits = SANDBOX
    run: Callable[[Sequence[Program], Limits], list[Verdict]] = run_programs
    scan: Callable[[Sequence[str]], list[Scanned]] = scanner.scan
    judge: Model | None = None
    """Rates replies."""
    sorter: Judge | None = None
    """Sorts replies into the classes of a rubric, and grades them."""
    classifier: AbuseModel | None = None
    """Of toxic text."""
    scorer: Values | None = None
    """Judges the completions of policies."""
    rows: PackedRows | None = None
    """Packed tokens."""


def bound(benchmark: Benchmark, tools: Tools) -> Benchmark:
    """The benchmark with the identity of what judges it, which is part of its id.

    Raises:
        ValueError: ``tools`` lacks it.
    """
    made = [judged_by(benchmark, tools)] if benchmark.method in JUDGED else []
    if benchmark.rubric:
        if tools.sorter is None:
            raise ValueError(f"{benchmark.name}: its rubric needs a judge")
        made.append(f"{benchmark.rubric.id} {tools.sorter.identity}")
    return benchmark.model_copy(update={"judge": "; ".join(made)}) if made else benchmark


def judged_by(benchmark: Benchmark, tools: Tools) -> str:
    """Identity of the model, classifier or sandbox that judges, the sandbox with the isolation that this machine gives for ``available``.

    Raises:
        ValueError: ``tools`` lacks it.
    """
    if benchmark.method == "code":
        return digest(on_first_rank(lambda: resolved(tools.sandbox)))[:16]
    if benchmark.method == "toxicity" and tools.classifier:
        return digest([tools.classifier.identity, TOXIC])[:16]
    if benchmark.method == "scan":
        return scanner.identity()
    if benchmark.method == "graded" and not benchmark.graders:
        raise ValueError(f"{benchmark.name}: needs graders: rubrics such as configs/rubrics/true.toml (--grader FILE, graders = [...])")
    if benchmark.method == "graded" and tools.sorter:
        return tools.sorter.identity
    if benchmark.method == "scalar" and tools.scorer:
        return tools.scorer.weights
    if benchmark.method in ("judge", "turns") and tools.judge:
        return f"{tools.judge.name} {answering(tools.judge)}"
    needed = {
        "toxicity": "a classifier of abuse (--classifier DIR, the corpus artifact with abuse.npz)",
        "judge": "a judging model (--judge MODEL)",
        "turns": "a judging model (--judge MODEL)",
        "graded": "a judging model (--judge MODEL)",
        "scalar": "the scorer model of a line",
    }
    raise ValueError(f"{benchmark.name}: needs {needed[benchmark.method]}")
