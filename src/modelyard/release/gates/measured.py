"""What gates take from results by a benchmark's name: records that may be compared, and metrics under their limits. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.formats.records import score_of
from modelyard.formats.results import Results, Rows
from modelyard.release.compare import Comparison, Grouped, compare
from modelyard.release.gates.gate import Objection, RefusedError
from modelyard.release.limits import ReleaseConfig
from modelyard.stats.estimate import Estimate
from modelyard.stats.misclassification import JudgeError, corrected, youden
from modelyard.stats.paired import undecidable

SHOWN_AS = {"sft": "SFT", "base": "the base model"}
"""Model that a release is made of -> what a reason calls it."""
SAFETY = "safety"
"""Aspect of the benchmarks that the safety gate judges."""
PRODUCTION = "production"
"""What serves, as an objection calls it."""
UNLIMITED = 1000
"""Items of which McNemar's smallest p is as good as 0."""
NAMED = 5
"""Items that a reason names, and that the card shows."""


def compared(results: Results, config: ReleaseConfig, *, safety: bool) -> list[str]:
    """The gated benchmarks that versions are compared on: those of safety, or all others."""
    return [
        name
        for name, measured in results.benchmarks.items()
        if measured.between_versions and config.of(name).own.gated and (measured.aspect == SAFETY) is safety
    ]


def records_of(results: Results, model: str, names: Sequence[str], config: ReleaseConfig, ids: Results | None = None) -> Grouped:
    """The records of a model on each benchmark, ``name/side`` where sides are compared apart, with the score that the
    limits name; ``ids`` are the results that say what the benchmarks are (default: these).

    Raises:
        RefusedError: a benchmark was not run, or its records are missing or of other weights.
    """
    found: dict[str, Rows] = {}
    for name in names:
        rows = results.of(model).get(name, ())
        if name not in results.benchmarks or not rows:
            raise RefusedError(f"records of benchmark {name} are missing for {model}")
        if foreign := {str(row.get("weights")) for row in rows} - {results.weights.get(model)}:
            raise RefusedError(f"records of {name} are of other {model} weights ({sorted(foreign)[0][:12]})")
        rows = [scored(row, config.of(name).own.metric, name) for row in rows]
        sides = (ids or results).benchmarks[name].sides
        for side in sides:
            found[f"{name}/{side}"] = [row for row in rows if row.get("group") == side]
            if not found[f"{name}/{side}"]:
                raise RefusedError(f"{name} has no records of its side {side} for {model}")
        if not sides:
            found[name] = rows
    return found


def scored(row: Mapping[str, Any], key: str, name: str) -> Mapping[str, Any]:
    """The record with the value that is compared as its score. Raises RefusedError where it has none."""
    if not key:
        return row
    if key not in row.get("values", {}):
        raise RefusedError(f"records of {name} have no value {key!r}, which release.limits.{name}.metric names")
    return {**row, "score": row["values"][key]}


def answered(results: Results, model: str, names: Sequence[str]) -> list[str]:
    """Those of the benchmarks that a model can be asked: one that reads text alone answers none with images, and has no records of it."""
    return [name for name in names if not results.benchmarks[name].images or results.of(model).get(name)]


def before(results: Results) -> str:
    """The model that the release is held against: the SFT model, or where that is what is released, the base model."""
    return "sft" if "sft" in results.weights else "base"


def changed_ids(results: Results, baseline: Results, names: Sequence[str]) -> str:
    """The first benchmark by which production was measured under another id, and both ids; "" where there is none."""
    for name in names:
        then = baseline.benchmarks[name].id if name in baseline.benchmarks else None
        if then != results.benchmarks[name].id:
            return f"{name}: production was measured by another benchmark id ({then}, now {results.benchmarks[name].id})"
    return ""


def tested(old: Grouped, new: Grouped, tolerance: Mapping[str, float], config: ReleaseConfig) -> list[Comparison]:
    """Paired tests on every benchmark. Raises RefusedError where a benchmark has too few items to say anything."""
    found = compare(old, new, alpha=config.alpha, min_items=1, tolerance=tolerance, seed=config.seed)
    if vacuous := [c for c in found if c.tolerance >= 1 and scored_as_share(old[c.benchmark]) and scored_as_share(new[c.benchmark])]:
        raise RefusedError(
            f"scores of {vacuous[0].benchmark} lie between 0 and 1, so none can be worse by more than {vacuous[0].tolerance:g}; "
            f"set release.limits.{named(vacuous[0].benchmark)}"
        )
    if few := [c.benchmark for c in found if c.n < config.of(named(c.benchmark)).min_items]:
        raise RefusedError(f"not enough items to compare on: {', '.join(few)}")
    if toothless := toothless_of(found, config.alpha):
        raise RefusedError(
            f"so few items that nothing could be significant at alpha {config.alpha:g} after Holm's correction over {len(found)} comparisons: "
            f"{', '.join(f'{c.benchmark} ({c.n})' for c in toothless)}"
        )
    return found


def toothless_of(found: Sequence[Comparison], alpha: float) -> list[Comparison]:
    """The comparisons by McNemar's test that no answers could make significant; a bootstrap's p has no such floor."""
    places = undecidable([c.n if c.test == "mcnemar" else UNLIMITED for c in found], alpha)
    return [found[place] for place in places]


def scored_as_share(rows: Rows) -> bool:
    """Whether every score lies in [0, 1]."""
    return all(0 <= score_of(row) <= 1 for row in rows)


def named(comparison: str) -> str:
    """The benchmark of ``benchmark``, ``benchmark/side`` or ``benchmark, against ...``."""
    return comparison.split(",")[0].split("/")[0]


def empty(limit: bool) -> str:
    """What a card says of a limit that no share can miss."""
    return " (an empty limit: no model can miss it)" if limit else ""


def corrected_share(seen: Estimate, error: JudgeError, what: str) -> Estimate:
    """A share with its judge's error in value and interval. Raises RefusedError where the judge may be no better than chance."""
    if (found := corrected(seen, error)) is None:
        raise RefusedError(f"{what}: a judge that {error} is not shown to be better than chance")
    return found


def tolerated(results: Results, name: str, config: ReleaseConfig) -> float:
    """The loss of mean score that a benchmark may show: of a true loss a judge with errors sees only a part, the least that its labels leave
    possible."""
    seen = (youden(error).low for error in results.benchmarks[name].judge_errors.values())
    return config.of(name).tolerance * max(0.0, min(seen, default=1.0))


def losing(found: Sequence[Comparison], against: str, config: ReleaseConfig) -> tuple[Objection, ...]:
    """What comparisons have against the release: the items that were lost against a model; nothing of one without any."""
    return tuple(
        Objection(benchmark=name, lost=True, against=against, metric=config.of(name).own.metric, n=len(c.lost), items=c.lost[:NAMED])
        for c in found
        if c.lost and (name := named(c.benchmark))
    )


def first(items: Sequence[str]) -> str:
    """The first few, as a reason names them: never all but one."""
    return ", ".join(items) if len(items) <= NAMED + 1 else ", ".join(items[:NAMED]) + ", ..."
