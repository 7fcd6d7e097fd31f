"""The shipped benchmarks: name -> how to build it from a data directory. Each is a plain function in the module of its kind.

A directory is laid out as ``{set}/{file}``; files may be gzipped. :func:`build` says what is missing where a set is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog import choice, code, more, reasoning, safety, text

Builder = Callable[[Path, int | None], Benchmark]
"""(data directory, shots or None for the benchmark's own number) -> benchmark with all its items."""

BENCHMARKS: dict[str, Builder] = {
    **choice.BENCHMARKS,
    **text.BENCHMARKS,
    **reasoning.BENCHMARKS,
    **code.BENCHMARKS,
    **safety.BENCHMARKS,
    **more.BENCHMARKS,
}
FAMILIES = {**choice.FAMILIES, **reasoning.FAMILIES}
"""Prefix -> builder of one member: ``mmlu_virology``, ``mgsm_de``, ``bbh_navigate``."""


def names() -> list[str]:
    """Every name that :func:`build` knows, members of families as ``mmlu_SUBJECT``."""
    return sorted([*BENCHMARKS, *(f"{prefix}_*" for prefix in FAMILIES)])


def build(name: str, data: Path, *, limit: int | None = None, shots: int | None = None) -> Benchmark:
    """The benchmark called ``name`` with its first ``limit`` items.

    Raises:
        ValueError: no such name, missing data, or a number of shots that its examples do not give.
    """
    key = name.lower().replace("-", "_")
    family, _, member = key.partition("_")
    if key in BENCHMARKS:
        built = BENCHMARKS[key](data, shots)
    elif family in FAMILIES and member:
        built = FAMILIES[family](data, shots, member)
    else:
        raise ValueError(f"benchmark {name!r}: not known; there are {', '.join(names())}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    return built if limit is None else built.model_copy(update={"items": built.items[:limit]})
