"""Ways to align one SFT model, by one gate: best-of-n, FeedME, PPO, PPO-ptx, GRPO, DPO and K-wise DPO at three settings each.

``make alignment`` (``python -m bench.alignment --family configs/pipeline/tiny``): every row is a line, ``FAMILY.toml`` or ``FAMILY-dpo.toml``,
``-grpo.toml``, ``-feedme.toml``, up to its decision as a first release; all share base, SFT model, prompts, comparisons, reward model and gold
reward model, which the store builds once. A policy starts from the SFT model that wins are counted over, also where its config has a second one,
so every KL has one origin. Ways that sample stop at a KL of so many nats (``--kl``) and release their last weights, since an average over
iterations would stay short of it; those that learn from comparisons have as many settings of beta, FeedME and best-of-n as many numbers of
samples. The table says how far each really went. Without two reward models that are clearly above chance on held-out pairs it would say nothing,
and is refused. Nothing is registered; what was built is found again, so the program can be killed at any point. Left out: seeds (one each),
production to compare with.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from prefect import flow

from bench import best_of_n
from bench.alignment_table import BASE_ROW, Row, plot, row_of, spread, table
from bench.lines import Progress, at_home, measure
from bench.program import REPORT, program
from flows.pipeline_config import Given, PipelineConfig, load_pipeline, resolve
from flows.release import rules
from flows.tracked import tracked
from modelyard.adapters import terminal
from modelyard.exit_codes import DONE
from modelyard.stats.estimate import Estimate
from modelyard.store import local_files
from tasks.line import Line
from tasks.session import run_from_terminal
from tasks.stage import Name
from tasks.stages import SFT


class Way(NamedTuple):
    """A way to align."""

    name: str
    end: str
    """Of its config's name, behind the family's."""
    settings: tuple[str, ...]
    """Overrides of all its rows."""
    scale: str
    """The key that differs from row to row: ``kl`` of ways that stop there, ``beta``, or ``samples``."""


SAMPLING = ("policy.kl_coef={kl_coef}", "policy.ema_decay=0")
WAYS = (
    Way("FeedME", "-feedme", (), "samples"),
    Way("PPO", "", (*SAMPLING, "policy.ptx_coef=0", "policy.ptx_rows=0"), "kl"),
    Way("PPO-ptx", "", SAMPLING, "kl"),
    Way("GRPO", "-grpo", SAMPLING, "kl"),
    Way("DPO", "-dpo", ('policy.algorithm="dpo"',), "beta"),
    Way("K-wise DPO", "-dpo", ('policy.algorithm="kwise_dpo"',), "beta"),
)
BEST_OF_N = "best-of-n"
KEYS = {"kl": "policy.kl_stop", "beta": "policy.beta", "samples": "feedme.samples"}


READ: Mapping[str, tuple[Name, ...]] = {
    "sft": SFT,
    "reward": ("reward",),
    "gold": ("gold",),
    "benchmarks": ("benchmarks",),
    "results": ("results",),
}
"""What best-of-n reads of a line."""


class Planned(NamedTuple):
    """A row before it is built."""

    way: str
    setting: str
    """As the table shows it, such as ``beta 0.1``."""
    config: PipelineConfig


def planned(family: str, home: Path, scales: dict[str, Sequence[float]], kl_coef: float, more: Sequence[str]) -> list[Planned]:
    """Every row of a config: all ways at their first setting, then at their next, so that a run cut short compares them. Raises ConfigError."""
    where = (f"execution.store=file://{home}/store", f"execution.scratch={home}/scratch")
    rows = []
    for place in range(max(map(len, scales.values()))):
        for way in WAYS:
            for value in scales[way.scale][place : place + 1]:
                settings = [*(one.format(kl_coef=kl_coef) for one in way.settings), f"{KEYS[way.scale]}={value:g}"]
                config = from_one_model(load_pipeline(f"{family}{way.end}.toml", [*where, *settings, *more]))
                rows.append(Planned(way.name, f"{way.scale} {value:g}", config))
    return rows


def from_one_model(config: PipelineConfig) -> PipelineConfig:
    """The config without a second SFT model for its policy: that of FeedME is what it releases."""
    return config if config.policy is None else config.model_copy(update={"sft_start": None, "start_selection": None})


class Measured(NamedTuple):
    """A line at its decision."""

    line: Line
    cached: bool
    """Whether its results were there before."""


@flow(name="aligned", flow_run_name="{config.name}")
@tracked
def aligned_flow(config: Given) -> Measured:
    """The line up to its decision as the first release of its name, which is not carried out.

    Args:
        config: the line, or its file with overrides.
    """
    config = resolve(config)
    line = Line(config)
    measure(line)
    cached = line.built["results"].cached
    line.build_from("decision", rules(config, first=True))
    return Measured(line, cached)


def gone_through(rows: Sequence[Planned], sizes: Sequence[int], threads: int, note: Callable[[Sequence[Row]], None]) -> None:
    """Every line built or found, the SFT model as the first has it, and at last best-of-n on the first line's prompts; ``note`` hears after each
    what the table holds, way by way."""
    out, progress = terminal.console(), Progress([row.way for row in rows])
    found, lines = list[Row](), list[Line]()
    for place, row in enumerate(rows):
        out.print(progress.before(place, f"{row.way}, {row.setting}"), style="bold")
        began = time.monotonic()
        line, cached = aligned_flow(row.config)
        if found and not cached:  # the first builds what all share
            progress.took[row.way] = time.monotonic() - began
        if not found:
            found.append(row_of(line, row.config.release, BASE_ROW, ""))
        found.append(row_of(line, row.config.release, row.way, row.setting))
        lines.append(line)
        note(in_order(found))
    note(in_order([*found, *sharpened(lines[0], rows[0].config, sizes, threads)]))


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Way by way, each in the order that its rows were built in."""
    ways = [BASE_ROW, BEST_OF_N, *(way.name for way in WAYS)]
    return sorted(rows, key=lambda row: ways.index(row.way))


def sharpened(line: Line, config: PipelineConfig, sizes: Sequence[int], threads: int) -> list[Row]:
    """Best-of-n of the line's SFT model."""
    store, kept = line.place.store, line.place.store.scratch / "best-of-n.json"
    made = {name: line.artifact(*players) for name, players in READ.items()}
    key = " ".join([*(made[name].ref for name in ("sft", "reward", "gold", "results")), *map(str, sizes)])
    known = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    if key not in known:
        inputs = {role: store.fetch(one) for role, one in made.items()}
        execution = config.execution.model_copy(update={"threads": threads})
        rates = best_of_n.measure(inputs, config.release.preference, sizes, config.evals.seed, execution)
        known = {key: {str(n): rate.plain() for n, rate in rates.items()}}
        local_files.write_aside(str(store.scratch), str(kept), json.dumps(known).encode(), os.replace)
    found = {n: {"kl": exactly(best_of_n.distance(n)), "win_rate": Estimate.of(known[key][str(n)])} for n in sizes}
    return [Row(BEST_OF_N, f"samples {n}", estimates) for n, estimates in found.items()]


def exactly(value: float) -> Estimate:
    """What is computed rather than measured."""
    return Estimate(value, value, value, 0)


def main(
    family: Annotated[str, typer.Option(help="Configs without their ends.")] = "configs/pipeline/tiny",
    home: Annotated[Path, typer.Option(help="Keeps artifacts, table and picture; a run goes on from what is there.")] = Path(
        ".modelyard/alignment"
    ),
    kl: Annotated[list[float], typer.Option(help="Nats a sequence at which ways that sample stop.")] = [1.0, 2.5, 5.0],
    kl_coef: Annotated[float, typer.Option(help="Their charge per nat before; so small that it stops none of them.")] = 0.02,
    beta: Annotated[list[float], typer.Option(help="Of ways that learn from comparisons.")] = [0.3, 0.1, 0.03],
    samples: Annotated[list[int], typer.Option(help="Of FeedME and best-of-n.")] = [4, 16, 64],
    first: Annotated[int | None, typer.Option(help="Build no more rows than so many; the others are named.")] = None,
    threads: int = 2,
    settings: Annotated[list[str], typer.Option("--set", help="Other keys of every config.", metavar="KEY=VALUE")] = [],
    report: Annotated[Path | None, REPORT] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot")] = None,
) -> int:
    """Build what is missing, then print and draw the table."""
    home = at_home(home)
    scales: dict[str, Sequence[float]] = {"kl": kl, "beta": beta, "samples": samples}
    rows = planned(family, home, scales, kl_coef, [f"execution.threads={threads}", *settings])
    wanted, left = rows[:first], rows[first:] if first else []
    kept, drawn = report or home / "alignment.json", plot_file or home / "alignment.png"
    found: list[Row] = []

    def note(known: Sequence[Row]) -> None:
        found[:] = known
        kept.write_text(json.dumps([one.plain() for one in known], indent=1) + "\n", "utf-8")
        plot(known, drawn)

    code = run_from_terminal(family, (), lambda *_: wanted, lambda wanted: gone_through(wanted, samples, threads, note))
    if code != DONE:
        return code
    unmeasured = "; ".join(f"{row.way}, {row.setting}" for row in left)
    terminal.console().print(table(found))
    for line in (spread(found), f"not measured: {unmeasured}" if unmeasured else "", f"{kept}, {drawn}"):
        if line:
            terminal.console().print(line, highlight=False)
    return DONE


if __name__ == "__main__":
    sys.exit(program(main))
