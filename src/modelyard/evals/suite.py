"""The evals stage's config, and suites of benchmarks in aspects for the command.

A suite groups names into aspects, as GPT-Fathom does (configs/evals/fathom.toml), and may say for all of them how they are
asked (configs/evals/fathom-chat.toml). Left out: weights between benchmarks; an aspect is the plain mean of those that ran.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.evals import catalog, ways
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.sets import BenchmarkConfig, BenchmarkConfigs, SetsConfig, build
from modelyard.judges.open_judge import JudgeConfig
from modelyard.judges.sandbox.run import Limits
from modelyard.model.asked import ChooseBy
from modelyard.stats.estimate import Estimate


class EvalsConfig(SetsConfig):
    """What is measured, on how much, and what judges."""

    validation_rows: int = Field(default=100_000, ge=1)
    """Most packed validation rows whose loss is measured."""
    calibration_positions: int = Field(default=4, ge=1)
    """Positions of each validation row at which the next token is predicted."""
    calibration_rows: int = Field(default=400, ge=1)
    """Validation rows used for that."""
    sandbox: Limits = Limits(wall_seconds=15.0, cpu_seconds=5, memory_bytes=1 << 29, file_bytes=1 << 24, processes=2)
    """What generated code may use."""
    judge: JudgeConfig | None = None
    """Who rates replies and sorts them into rubrics' classes; its ``policy`` is the SFT model, whoever is measured."""

    @model_validator(mode="after")
    def _judged(self) -> EvalsConfig:
        if self.judge is None and (asked := [one.name for one in self.benchmarks if one.rubric or one.graders]):
            raise ValueError(f"benchmarks: {asked[0]} has a rubric, and there is no judge")
        return self


class SuiteConfig(Config):
    """Which benchmarks, in which aspects."""

    name: str
    """What the suite is called."""
    aspects: dict[str, tuple[str, ...]] = Field(min_length=1)
    """Aspect -> benchmarks."""
    shots: dict[str, int] = Field(default_factory=dict)
    """Benchmark -> examples in the prompt, where not its usual number."""
    chat: bool | None = None
    """Ask all of them in the model's chat template, or as plain text; absent: as each does. A benchmark's own table goes before."""
    choose_by: ChooseBy | None = None
    """Multiple choice: the likeliest option, or the letter of a generated reply; absent: as each does. A benchmark's own table goes before."""
    benchmarks: BenchmarkConfigs = ()
    """Tables, as those of ``[evals.benchmarks]``, of the benchmarks that are not simply named: sets of files, or of the catalog
    with what is to differ."""

    @model_validator(mode="after")
    def _known(self) -> SuiteConfig:
        if empty := [f"aspects.{aspect}" for aspect, members in self.aspects.items() if not members]:
            raise ValueError(f"{empty[0]}: names no benchmark")
        named = [name for members in self.aspects.values() for name in members]
        described = {one.name for one in self.benchmarks}
        if idle := described - set(named):
            raise ValueError(f"benchmarks.{sorted(idle)[0]}: is in no aspect")
        for name in [*named, *self.shots]:
            if name not in described and not catalog.known(name):
                raise ValueError(f"benchmark {name!r} is not known{catalog.meant(name)}")
        if twice := {name for name in named if named.count(name) > 1}:
            raise ValueError(f"benchmark {twice.pop()!r} is named twice")
        if both := described & set(self.shots):
            raise ValueError(f"shots.{sorted(both)[0]}: the table benchmarks.{sorted(both)[0]} says how it is asked; put them there")
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


def plan(suite: SuiteConfig, data: Path, limit: float | None, beside: Path = Path(), seed: int = 0) -> list[Planned]:
    """Build what can be built, limits by ``seed``; what has no data is missing with the file that was looked for, and changes no mean.

    ``beside`` is the directory of the suite's file, where files that its tables name are looked for before ``data``.
    """
    planned = []
    tables = {one.name: one for one in suite.benchmarks}
    for aspect, names in suite.aspects.items():
        for name in names:
            try:
                built = (
                    described(tables[name], limit, data, beside, seed)
                    if name in tables
                    else catalog.build(name, data, limit=limit, shots=suite.shots.get(name), seed=seed)
                )
                planned.append(Planned(aspect, name, in_way_of(suite, built, tables.get(name)), ""))
            except ValueError as error:
                planned.append(Planned(aspect, name, None, str(error)))
    return planned


def in_way_of(suite: SuiteConfig, benchmark: Benchmark, own: BenchmarkConfig | None) -> Benchmark:
    """Asked as the suite asks, where its own table does not say. Raises ValueError where it has no chat form."""
    choose_by = suite.choose_by if benchmark.method in ways.WITH_OPTIONS and not (own and own.choose_by) else None
    chat = suite.chat if own is None or own.chat is None else None
    return ways.asked(benchmark, choose_by, chat)


def described(config: BenchmarkConfig, limit: float | None, data: Path, beside: Path, seed: int) -> Benchmark:
    """The benchmark of a table; ``limit`` is for all that have none of their own."""
    return build(config, SetsConfig(seed=seed, benchmarks=(config,), limit=limit), (), (str(beside), str(data)))


def aspect_means(planned: list[Planned], found: Mapping[str, Estimate]) -> dict[str, str]:
    """Aspect -> mean of the primary metrics of its benchmarks that ran, and how many did."""
    lines = {}
    for aspect in dict.fromkeys(p.aspect for p in planned):
        members = [p.name for p in planned if p.aspect == aspect]
        ran = [found[name].value for name in members if name in found]
        lines[aspect] = f"{sum(ran) / len(ran):.4f} over {len(ran)} of {len(members)}" if ran else f"not measured: 0 of {len(members)}"
    return lines
