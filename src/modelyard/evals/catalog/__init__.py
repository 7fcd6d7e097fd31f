"""The shipped benchmarks: name -> how to build it from a data directory. Each is a plain function in the module of its kind.

A directory is laid out as ``{set}/{file}`` (a ``held_out`` artifact as ``benchmarks/{file}``), files gzipped or not, or holds
in ``{set}/`` what the Hub publishes, Parquet or JSON lines under their own field names (:mod:`modelyard.evals.catalog.rows`).
:func:`build` says what is missing where a set is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modelyard.closest import did_you_mean
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog import (
    big_bench_hard,
    choice,
    code,
    corpus,
    images,
    limitations,
    mgsm,
    more,
    reasoning,
    safety,
    short_answers,
    text,
    translated,
    truthfulness,
)
from modelyard.evals.sampling import sampled

Builder = Callable[[Path, int | None], Benchmark]
"""(data directory, shots or None for the benchmark's own number) -> benchmark with all its items."""

BENCHMARKS: dict[str, Builder] = {
    **corpus.BENCHMARKS,
    **choice.BENCHMARKS,
    **text.BENCHMARKS,
    **reasoning.BENCHMARKS,
    **big_bench_hard.BENCHMARKS,
    **mgsm.BENCHMARKS,
    **code.BENCHMARKS,
    **safety.BENCHMARKS,
    **more.BENCHMARKS,
    **short_answers.BENCHMARKS,
    **limitations.BENCHMARKS,
    **translated.BENCHMARKS,
    **truthfulness.BENCHMARKS,
    **images.BENCHMARKS,
}
Family = Callable[[Path, int | None, str | None], Benchmark]
"""The same of one member, or with None of all."""
FAMILIES: dict[str, Family] = {**choice.FAMILIES, **big_bench_hard.FAMILIES, **mgsm.FAMILIES, **translated.FAMILIES}
"""Prefix -> builder of one member: ``mmlu_virology``, ``mgsm_de``, ``bbh_navigate``, ``mmlu_translated_de``."""


def names() -> list[str]:
    """Every name that :func:`build` knows, members of families as ``mmlu_SUBJECT``."""
    return sorted([*BENCHMARKS, *(f"{prefix}_*" for prefix in FAMILIES)])


def meant(name: str) -> str:
    """``; did you mean 'mmlu_virology'?`` of a name that is not known; "" where nothing is close."""
    key = canonical(name)
    members = [f"{family}_{key.split('_', family.count('_') + 1)[-1]}" for family in FAMILIES]
    return did_you_mean(key, [*BENCHMARKS, *members])


def known(name: str) -> bool:
    """Whether :func:`build` knows the name."""
    key = canonical(name)
    return key in BENCHMARKS or member_of(key) is not None


def member_of(key: str) -> tuple[str, str] | None:
    """``mmlu_translated_de`` -> ``("mmlu_translated", "de")``: the longest family that the name begins with; None without one."""
    fitting = [family for family in FAMILIES if key.startswith(f"{family}_") and len(key) > len(family) + 1]
    return max(((family, key[len(family) + 1 :]) for family in fitting), default=None, key=lambda one: len(one[0]))


def canonical(name: str) -> str:
    """``arc-easy`` -> ``arc_easy``."""
    return name.lower().replace("-", "_")


def build(name: str, data: Path, *, limit: float | None = None, shots: int | None = None, seed: int = 0) -> Benchmark:
    """The benchmark called ``name`` with at most ``limit`` items: a sample drawn with ``seed``, every group in its share.

    Raises:
        ValueError: no such name, missing data, or a number of shots that its examples do not give.
    """
    key = canonical(name)
    if key in BENCHMARKS:
        built = BENCHMARKS[key](data, shots)
    elif one := member_of(key):
        built = FAMILIES[one[0]](data, shots, one[1])
    else:
        raise ValueError(f"benchmark {name!r}: not known; there are {', '.join(names())}{meant(name)}")
    return built.model_copy(update={"items": sampled(built.items, limit, seed)})
