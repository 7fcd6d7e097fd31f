"""Results of a chain of versions as one HTML page that needs no network: tables with intervals, plots as embedded SVG.

The page shows each benchmark's score by version with its interval and the change that each step made (GPT-Fathom's
evolution figure; the alignment tax is the fall between base and aligned). Only equal benchmark ids are compared: what a
version measured by another id than the newest one's is a dash. A directory that is read is a results artifact, a
directory of the command's ``*.metrics.json``, or of the ``*analysis.json`` of analyses. Left out: significance of
changes (``release.compare`` tests pairs).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from modelyard import printable
from modelyard.formats import json_file
from modelyard.formats.results import Results, read_results
from modelyard.release.card import figures
from modelyard.release.card.evolution_template import TEMPLATE
from modelyard.stats.estimate import Estimate

FILE, RESULTS, POLICY = "evolution.html", "results.json", "policy"
CHAIN = ("base", "no_contam", "sft_start", "no_vision", "sft", POLICY)
"""Models of a line, each made of one before it."""
VERSION = "version_"
"""Prefix of the decision stage's inputs that are results of released versions."""
THIS = "this"
Plain = dict[str, float | None]
SCORES: TypeAdapter[dict[str, Plain]] = TypeAdapter(dict[str, Plain])
SPREAD: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, float])


class Score(NamedTuple):
    """What stands for a benchmark in one version."""

    id: str
    """The benchmark's."""
    metric: str
    estimate: Estimate


class Cell(NamedTuple):
    """A benchmark in one version, as the table shows it."""

    text: str
    change: float | None
    """From the version before."""
    estimate: Estimate | None


class Row(NamedTuple):
    """A benchmark over all versions."""

    name: str
    metric: str
    cells: list[Cell]


class Source(NamedTuple):
    """Where the results of a version are."""

    directory: Path
    model: str = ""
    """Of a results artifact; "": the policy."""


Version = Mapping[str, Score]
"""Benchmark -> score."""


def number(value: float | None) -> str:
    """Four digits, or a dash."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def of_results(results: Results, model: str = POLICY, every: bool = False) -> dict[str, Score]:
    """The first metric of every benchmark that versions are compared on, or of ``every`` one: ids tell what can be compared.

    Of several tries pass@10 and pass@100 stand beside it: alignment turns what a model can do in many into what it does in one, and may cost
    some of the many (GPT-Fathom, arXiv:2309.16583).
    """
    found = {}
    for name, measured in results.benchmarks.items():
        if not (every or measured.between_versions):
            continue
        for row, metric in shown(name, measured.metrics).items():
            if estimate := results.metrics.get(f"evals/{model}/{name}/{metric}"):
                found[row] = Score(measured.id, metric, estimate)
    return found


def shown(name: str, metrics: Iterable[str]) -> dict[str, str]:
    """Row of the page -> metric of the benchmark called ``name``: the first one, and every pass@k."""
    first, *others = metrics
    tries = {f"{name} {other.removeprefix('pass_').replace('_', ' ')}": other for other in others if other.startswith("pass_at_")}
    return {name: first, **tries}


def of_versions(name: str, inputs: Mapping[str, Path], results: Results) -> str:
    """The page of a release: ``inputs`` ``version_1``, ``version_3``... are the results of the versions before it, in the order of their releases."""
    before = {role.removeprefix(VERSION): directory for role, directory in inputs.items() if role.startswith(VERSION)}
    versions = {number: of_results(read_results(directory)) for number, directory in before.items()}
    return page(f"{name}: the releases that led to this version", {**versions, THIS: of_results(results)}, [])


def models_of(directory: Path) -> list[str]:
    """The models of a results artifact, in the order in which each is made of the one before. Raises ValueError for no such artifact."""
    if not (directory / RESULTS).is_file():
        raise ValueError(f"{directory}: no {RESULTS} of a line; other results need a label, as in LABEL={directory}")
    found = read_results(directory).records
    return [name for name in CHAIN if name in found] + sorted(set(found) - set(CHAIN))


def read(source: Source) -> tuple[dict[str, Score], list[dict[str, Any]]]:
    """Scores by benchmark, and analyses. Raises ValueError where the directory holds neither, or has no such model."""
    directory = source.directory
    if (directory / RESULTS).is_file():
        results = read_results(directory)
        model = source.model or POLICY
        if model not in results.records:
            raise ValueError(f"{directory}: has no model {model!r}; it has {', '.join(sorted(results.records))}")
        return of_results(results, model, every=True), []
    if source.model:
        raise ValueError(f"{directory}: no {RESULTS}, so it has one model, and {source.model!r} names none")
    found = {}
    for path in sorted(directory.glob("*.metrics.json")):
        content = json_file.table(path, "benchmark", "benchmark_id", "metrics")
        scores = scores_of(path, "metrics", content["metrics"])
        for row, metric in shown(str(content["benchmark"]), scores).items():
            found[row] = Score(str(content["benchmark_id"]), metric, Estimate.of(scores[metric]))
    analyses = [read_analysis(path) for path in sorted(directory.glob("*analysis.json"))]
    if not found and not analyses:
        raise ValueError(f"{directory}: no results.json, no *.metrics.json and no *analysis.json")
    return found, analyses


def read_analysis(path: Path) -> dict[str, Any]:
    """An analysis as ``modelyard eval --analysis`` writes it. Raises ValueError naming file and key."""
    content = json_file.table(path, "analysis", "benchmark", "scores", "spread")
    try:
        spread = SPREAD.validate_python(content["spread"])
    except ValidationError:
        spread = {}
    if not {"lowest", "highest", "deviation"} <= set(spread):
        raise ValueError(f"{path}: spread: expected the numbers lowest, highest and deviation")
    return {
        "analysis": str(content["analysis"]),
        "benchmark": str(content["benchmark"]),
        "scores": scores_of(path, "scores", content["scores"]),
        "spread": spread,
    }


def scores_of(path: Path, key: str, value: object) -> dict[str, Plain]:
    """Name -> plain estimate of a file's ``key``; never empty. Raises ValueError."""
    try:
        scores = SCORES.validate_python(value)
        if not scores or any(one.get("value") is None for one in scores.values()):
            raise KeyError("value")
        for one in scores.values():
            Estimate.of(one)
    except (ValidationError, KeyError):
        raise ValueError(f"{path}: {key}: expected names, each with value, low, high and n") from None
    return scores


def evolution(versions: Sequence[Version]) -> list[Row]:
    """For each benchmark its score by version and the change from the version before."""
    names = dict.fromkeys(name for version in versions for name in version)
    rows = []
    for name in names:
        newest = next(version[name] for version in reversed(versions) if name in version)
        cells, before = list[Cell](), None
        for score in (version.get(name) for version in versions):
            if score is None or (score.id, score.metric) != (newest.id, newest.metric):
                cells.append(Cell("-", None, None))
                continue
            one = score.estimate
            text = f"{one.value:.4f} [{number(one.low)}, {number(one.high)}]"
            cells.append(Cell(text, None if before is None else one.value - before, one))
            before = one.value
        rows.append(Row(name, newest.metric, cells))
    return rows


def figure(points: Sequence[tuple[str, Estimate]]) -> str:
    """SVG: the points in their order, with their intervals."""
    return figures.draw(lambda axes: chart(axes, points), height=2.2)


def chart(axes: Any, points: Sequence[tuple[str, Estimate]], name: str = "") -> None:
    """Draw the points in their order, with their intervals; ``name`` is for a legend."""
    values = [one.value for _, one in points]
    below = [0.0 if math.isnan(one.low) else max(0.0, one.value - one.low) for _, one in points]
    above = [0.0 if math.isnan(one.high) else max(0.0, one.high - one.value) for _, one in points]
    axes.errorbar([label for label, _ in points], values, yerr=[below, above], marker="o", capsize=3, label=name)
    axes.margins(x=0.15)


def render(sources: Mapping[str, Source]) -> str:
    """The page of version label -> results. Raises ValueError for a directory without results."""
    found = {label: read(source) for label, source in sources.items()}
    analyses = [{**entry, "label": label} for label, (_, own) in found.items() for entry in own]
    return page("Evaluation", {label: scores for label, (scores, _) in found.items() if scores}, analyses)


def page(title: str, versions: Mapping[str, Version], analyses: Sequence[Mapping[str, Any]]) -> str:
    """The page of versions in their order, and of analyses."""
    rows, labels = evolution(list(versions.values())), list(versions)
    lines = {
        f"{row.name} ({row.metric})": [(label, cell.estimate) for label, cell in zip(labels, row.cells, strict=True) if cell.estimate]
        for row in rows
    }
    drawn = [{**entry, "figure": figure(estimates(entry["scores"]))} for entry in analyses]
    return printable.page(TEMPLATE).render(
        title=title,
        rows=rows,
        versions=labels,
        evolution=[(caption, figure(points)) for caption, points in lines.items() if points] if len(labels) > 1 else [],
        analyses=drawn,
        number=number,
    )


def estimates(scores: Mapping[str, Mapping[str, float | None]]) -> list[tuple[str, Estimate]]:
    """Label and estimate of an analysis's variants."""
    return [(label, Estimate.of(one)) for label, one in scores.items()]
