"""Benchmarks of which a config itself says that they will have too few items to decide: those of a user's own file, and those with a limit.

The gates refuse them (``only 12 items of sums were checked``), after the data are made; here it is said before. Left out: benchmarks that the line's
own artifacts bring, without a limit or with a share: how many items they have is not known before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelyard.evals import sets
from modelyard.evals.gather import GatherConfig
from modelyard.evals.sets import BenchmarkConfig
from modelyard.release.limits import ReleaseConfig
from tasks.line_config import LineConfig


def few_items(config: LineConfig) -> list[str]:
    """A line on every benchmark, or side of one, that decides with fewer items than the release asks for."""
    measured, release = config.of("benchmarks"), getattr(config, "release", None)
    if not isinstance(measured, GatherConfig) or not isinstance(release, ReleaseConfig):
        return []
    named = zip(measured.names, measured.benchmarks, strict=True)
    return [line for name, one in named if decides(name, release) for line in _few(name, one, measured, release, config.execution.roots)]


def decides(name: str, release: ReleaseConfig) -> bool:
    """Whether any gate takes a number from the benchmark."""
    preferred = () if release.set_aside.preference else (release.preference,)
    return release.of(name).own.gated or name in (*preferred, *release.calibration)


def _few(name: str, one: BenchmarkConfig, measured: GatherConfig, release: ReleaseConfig, roots: Sequence[str]) -> Iterator[str]:
    held = release.of(name)
    key = "release.min_items" if held.own.min_items is None else f"release.limits.{name}.min_items"
    for which, count in counted(one, measured, roots).items():
        if count < held.min_items:
            yield f"evals.benchmarks.{name}{which}: {count} items, and {key} is {held.min_items}: too few to decide, so the release is blocked"


def counted(one: BenchmarkConfig, measured: GatherConfig, roots: Sequence[str]) -> dict[str, int]:
    """Items of a benchmark (under ``""``) and of each of its sides, as far as config and files say; at most, where only a limit is known."""
    try:
        built = sets.build(one, measured, (), roots)
    except ValueError:  # its data are not there yet, or are refused: said elsewhere
        limit = one.limit or measured.limit
        return {" (limit)": int(limit)} if limit and limit >= 1 else {}
    groups = [item.group for item in built.items]
    return {"": len(groups), **{f" (side {side})": groups.count(side) for side in built.sides}}
