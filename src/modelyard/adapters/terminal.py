"""What a person at the terminal sees: one progress bar a stage while it works, and the summary at the end.

On a terminal the bar is live; elsewhere (a log, CI, a Prefect worker) the same facts come as plain lines, at most one every
``PLAIN_SECONDS``. Left out: the run's history and plots, which are MLflow's and Prefect's pages.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape as without_markup
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from modelyard.adapters.pace import Pace, short
from modelyard.complaint import showable
from modelyard.progress import Report

STAGE = 20
"""Of the column with stages' names: the longest, and a space."""
PLAIN_SECONDS = 10.0
WIDTH = 120
CHARACTERS = 300


class StageLine(NamedTuple):
    """A row of the summary."""

    stage: str
    seconds: float
    cached: bool
    metric: str
    """The key metric with its uncertainty, ready to show."""


class GateLine(NamedTuple):
    """A gate and what it says."""

    gate: str
    verdict: str
    reason: str


class Sample(NamedTuple):
    """One opening and what each model made of it."""

    opening: str
    completions: Mapping[str, str]


class Summary(NamedTuple):
    """All that the last screen shows."""

    stages: Sequence[StageLine]
    samples: Sequence[Sample]
    gates: Sequence[GateLine]
    decision: str
    alias: str
    pages: str


def console() -> Console:
    """Standard output; a fixed width where there is no terminal to ask."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH, highlight=False, soft_wrap=False)


@contextmanager
def stage_progress(stage: str, out: Console, ahead: str = "") -> Iterator[Report]:
    """A :class:`Report` that shows ``stage`` at work until the block ends; ``ahead``: where in the line it stands."""
    show = _live if out.is_terminal else _plain
    with show(stage, out, ahead) as report:
        yield report


def ahead(number: int, total: int, seconds: float | None) -> str:
    """Where in the line a stage stands: its number, and how long it and what comes after it took before, where all of that is known."""
    took = "" if seconds is None else f"; from here on {_clock(seconds)} before"
    return f"stage {number} of {total}{took}"


def stage_done(line: StageLine, out: Console) -> None:
    """One line that stays when a stage is over."""
    how = "cached" if line.cached else f"built in {_clock(line.seconds)}"
    out.print(Text.assemble((f"{line.stage:<{STAGE}}", "bold"), (f"{how:<18}", "cyan" if line.cached else "green"), showable(line.metric)))


@contextmanager
def _live(stage: str, out: Console, ahead: str) -> Iterator[Report]:
    columns = [
        TextColumn(f"[bold]{escape(stage):<{STAGE}}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[pace]}"),
        TimeElapsedColumn(),
        TextColumn("elapsed"),
        TextColumn("{task.fields[metric]}"),
        TextColumn(f"[dim]{escape(ahead)}"),
    ]
    pace = Pace()
    with Progress(*columns, console=out, transient=True) as progress:
        bar = progress.add_task(stage, total=None, count="starting", metric="", pace="")

        def report(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
            pace.add(done, unit)
            count = f"{short(done)}/{short(total)} {unit}"
            progress.update(bar, completed=done, total=total, count=count, pace=_paced(pace, total))
            if metrics:
                progress.update(bar, metric=escape(short_metric(metrics)))

        yield report


@contextmanager
def _plain(stage: str, out: Console, ahead: str) -> Iterator[Report]:
    started = time.monotonic()
    shown = started
    pace = Pace()
    out.print(f"{stage}: started{f' ({ahead})' if ahead else ''}", markup=False)

    def report(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        nonlocal shown
        now = time.monotonic()
        pace.add(done, unit)
        if now - shown < PLAIN_SECONDS:
            return
        shown = now
        parts = (f"{done:,}/{total:,} {unit}", _paced(pace, total), f"elapsed {_clock(now - started)}", short_metric(metrics))
        out.print(f"{stage}: {'  '.join(filter(None, parts))}", markup=False)

    yield report


def _paced(pace: Pace, total: int) -> str:
    """Rate and time left, as far as they are known."""
    left = pace.left(total)
    return pace.shown if left is None else f"{pace.shown}  left {_clock(left)}"


def short_metric(metrics: Mapping[str, float]) -> str:
    """The first metric as ``name 1.234``: stages name the one that matters first."""
    for key, value in metrics.items():
        return f"{key.rsplit('/', 1)[-1]} {value:.4g}"
    return ""


def with_interval(metrics: Mapping[str, float], key: str) -> str:
    """``name 0.683 [0.662, 0.703]``, as far as the interval is there; empty when the metric is not."""
    if key not in metrics:
        return ""
    interval = f" [{metrics[f'{key}_low']:.3f}, {metrics[f'{key}_high']:.3f}]" if f"{key}_low" in metrics else ""
    value = metrics[key]
    return f"{key.split('/', 1)[-1]} {value:,.0f}" if abs(value) >= 1000 else f"{key.split('/', 1)[-1]} {value:.3f}{interval}"


def show_summary(summary: Summary, out: Console) -> None:
    """The last screen: stages, samples, gates, decision, alias, pages."""
    out.print()
    out.print(_stage_table(summary.stages))
    for sample in summary.samples:
        out.print(_sample_table(sample))
    if summary.gates:
        out.print(_gate_table(summary.gates))
    style = "bold green" if summary.decision.startswith("PROMOTE") else "bold red"
    for text, how in ((summary.decision, style), (summary.alias, ""), (summary.pages, "")):
        if text:
            out.print(Text(showable(text), style=how))


def _stage_table(stages: Sequence[StageLine]) -> Table:
    table = Table(title="Stages", title_justify="left")
    for name, justify in (("stage", "left"), ("seconds", "right"), ("", "left"), ("key metric", "left")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for line in stages:
        seconds = f"({line.seconds:.1f})" if line.cached else f"{line.seconds:.1f}"  # in brackets: what it once cost
        table.add_row(line.stage, seconds, "cached" if line.cached else "built", escape(line.metric))
    return table


def _sample_table(sample: Sample) -> Table:
    table = Table(title=f"“{escape(_clip(sample.opening))}”", title_justify="left", show_lines=False)
    for model in sample.completions:
        table.add_column(escape(model), ratio=1, overflow="fold")
    table.add_row(*(escape(_clip(text)) for text in sample.completions.values()))
    return table


def _gate_table(gates: Sequence[GateLine]) -> Table:
    table = Table(title="Gates", title_justify="left")
    for name in ("gate", "verdict", "reason"):
        table.add_column(name, overflow="fold")
    colour: Callable[[str], str] = lambda verdict: {"PROMOTE": "green", "HOLD": "yellow"}.get(verdict, "red")  # noqa: E731
    for line in gates:
        table.add_row(escape(line.gate), Text(line.verdict, style=colour(line.verdict)), escape(line.reason))
    return table


def escape(text: str) -> str:
    """Text of others for rich: no markup, nothing that a terminal obeys."""
    return without_markup(showable(text))


def _clip(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= CHARACTERS else flat[: CHARACTERS - 1] + "…"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
