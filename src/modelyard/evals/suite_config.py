"""A suite of benchmarks as one config: aspects, their benchmarks, and where the number of examples is not the usual one.

Follows GPT-Fathom's seven aspects (configs/evals/fathom.toml). A benchmark whose data is not there is reported as missing with the file that was
looked for; it never lowers or raises a mean. Left out: weights between benchmarks; an aspect is the plain mean of those that ran.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pydantic import model_validator

from modelyard.config import Config
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog import BENCHMARKS, build
from modelyard.evals.summary import Metric


class SuiteConfig(Config):
    """Which benchmarks, in which aspects."""

    name: str
    """What the suite is called."""
    aspects: dict[str, tuple[str, ...]]
    """Aspect -> benchmarks."""
    shots: dict[str, int]
    """Benchmark -> examples in the prompt, where not its usual number."""

    @model_validator(mode="after")
    def _known(self) -> SuiteConfig:
        named = [name for members in self.aspects.values() for name in members]
        for name in [*named, *self.shots]:
            if name not in BENCHMARKS:
                raise ValueError(f"benchmark {name!r} is not known")
        if twice := {name for name in named if named.count(name) > 1}:
            raise ValueError(f"benchmark {twice.pop()!r} is named twice")
        if stray := set(self.shots) - set(named):
            raise ValueError(f"shots of {stray.pop()!r}, which is in no aspect")
        return self


class Planned(NamedTuple):
    """A benchmark of a suite, built or missing."""

    aspect: str
    name: str
    benchmark: Benchmark | None
    missing: str
    """Why it cannot run; "" when it can."""


def plan(suite: SuiteConfig, data: Path, limit: int | None) -> list[Planned]:
    """Build what can be built."""
    planned = []
    for aspect, names in suite.aspects.items():
        for name in names:
            try:
                planned.append(Planned(aspect, name, build(name, data, limit=limit, shots=suite.shots.get(name)), ""))
            except ValueError as error:
                planned.append(Planned(aspect, name, None, str(error)))
    return planned


def aspect_means(planned: list[Planned], found: dict[str, Metric]) -> dict[str, str]:
    """Aspect -> mean of the primary metrics of its benchmarks that ran, and how many did."""
    lines = {}
    for aspect in dict.fromkeys(p.aspect for p in planned):
        own = [p.name for p in planned if p.aspect == aspect]
        ran = [found[name].value for name in own if name in found]
        lines[aspect] = f"{sum(ran) / len(ran):.4f} over {len(ran)} of {len(own)}" if ran else f"not measured: 0 of {len(own)}"
    return lines
