"""Ways to align one SFT model at equal compute, with seeds: FeedME, PPO, PPO-ptx, GRPO, DPO and K-wise DPO.

``make bench-alignment_equal`` (``python -m bench.alignment_equal --tflop 2``): every row is a line as in :mod:`bench.alignment`, with as many
iterations, epochs or answers to a prompt as make what its own stages compute so many TFLOP (:mod:`bench.alignment_compute`; before they are built,
answers count as long as they may be). Ways that sample aim at one distance: their KL charge adapts towards ``--target`` nats (Ziegler et al.) as
fast as ``--gain`` says, and no limit stops them; with a slow one a short run does not get there. Seeds are of what differs from row to row; base,
SFT model and both reward models are built once. What was built is found again, so the program can be killed at any point. Left out: best-of-n,
which trains nothing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

import typer
from prefect import flow

from bench.alignment import WAYS, Way, aligned_flow, from_one_model
from bench.alignment_compute import computed
from bench.alignment_table import BASE_ROW, OWN, Row, row_of, spread, table
from bench.lines import Progress, at_home, measure
from bench.program import REPORT, program
from flows.pipeline_config import Given, PipelineConfig, load_pipeline, resolve
from flows.tracked import tracked
from modelyard.adapters import terminal
from modelyard.exit_codes import DONE
from modelyard.posttrain.feedme import FeedMEConfig
from modelyard.posttrain.policy.config import PolicyConfig
from modelyard.posttrain.sft import SFTConfig
from tasks.line import Line
from tasks.session import run_from_terminal
from tasks.stage import Name

HELD = ("policy.kl_stop=1e6", "policy.ema_decay=0")
"""Of ways that sample, beside their charge."""
UNITS: dict[str, tuple[Name, str]] = {"kl": ("policy", "iterations"), "beta": ("policy", "epochs"), "samples": ("feedme", "samples")}
"""What a way has more or less of, by the key that its rows differ in elsewhere."""
LEAST_EPOCHS = 0.01
SEEDED: tuple[Name, ...] = ("feedme", "sft_start", "policy")


class Planned(NamedTuple):
    """A row before it is built."""

    way: Way
    seed: int
    config: PipelineConfig


def planned(family: str, home: Path, charge: str, seeds: int, more: Sequence[str]) -> list[Planned]:
    """Every row, all ways with their first seed, then with the next; ``charge``: a setting of those that sample. Raises ConfigError."""
    where = (f"execution.store=file://{home}/store", f"execution.scratch={home}/scratch")
    rows = []
    for seed in range(seeds):
        for way in WAYS:
            held = [*HELD, charge] if way.scale == "kl" else []
            own = [setting for setting in way.settings if "{" not in setting and setting not in held]
            config = from_one_model(load_pipeline(f"{family}{way.end}.toml", [*where, *own, *held, *more]))
            tables = [(name, config.of(name)) for name in SEEDED]
            moved: dict[str, Any] = {
                name: one.model_copy(update={"seed": one.seed + seed})
                for name, one in tables
                if isinstance(one, FeedMEConfig | SFTConfig | PolicyConfig)
            }
            rows.append(Planned(way, seed, config.model_copy(update=moved)))
    return rows


def bought(config: PipelineConfig, way: Way, units: float) -> PipelineConfig:
    """The config with so many units of its way."""
    name, key = UNITS[way.scale]
    one = config.of(name)
    assert one is not None, "a way has its own table"
    return config.model_copy(update={name: one.model_copy(update={key: units if way.scale == "beta" else round(units)})})


def affordable(config: PipelineConfig, line: Line, way: Way, flops: float) -> PipelineConfig:
    """The config with as many units of its way as come nearest to ``flops`` on what its ``line`` has so far; what they cost is a line over their
    number.

    Raises:
        ValueError: not even one iteration, a hundredth of an epoch, or one answer to each prompt.
    """
    one, two = (computed(line, bought(config, way, units)) for units in (1, 2))
    each, fixed = two - one, 2 * one - two
    least = LEAST_EPOCHS if way.scale == "beta" else 1
    if flops < fixed + least * each:
        raise ValueError(f"{way.name}: {flops / 1e12:g} TFLOP are less than the {(fixed + least * each) / 1e12:.3g} of its least")
    return bought(config, way, (flops - fixed) / each)


@flow(name="what ways to align share", flow_run_name="{config.name}")
@tracked
def shared_flow(config: Given) -> Line:
    """The line but for what differs from way to way.

    Args:
        config: the line, or its file with overrides.
    """
    line = Line(resolve(config))
    measure(line, *OWN, "before", "results")
    return line


def gone_through(rows: Sequence[Planned], flops: float, note: Callable[[Sequence[Row]], None]) -> None:
    """Every line built or found; ``note`` hears after each what the table holds, way by way."""
    out, progress = terminal.console(), Progress([row.way.name for row in rows])
    found = list[Row]()
    for place, row in enumerate(rows):
        out.print(progress.before(place, f"{row.way.name}, seed {row.seed}"), style="bold")
        began = time.monotonic()
        line, cached = aligned_flow(affordable(row.config, shared_flow(row.config), row.way, flops))
        if found and not cached:  # the first builds what all share
            progress.took[row.way.name] = time.monotonic() - began
        if not found:
            found.append(row_of(line, row.config.release, BASE_ROW, ""))
        name, key = UNITS[row.way.scale]
        found.append(row_of(line, row.config.release, row.way.name, f"seed {row.seed}, {key} {getattr(line.config.of(name), key):.3g}"))
        note(sorted(found, key=lambda one: [BASE_ROW, *(way.name for way in WAYS)].index(one.way)))


def over_seeds(rows: Sequence[Row]) -> list[str]:
    """A line for each way: means of its seeds, and their least and most."""
    lines = []
    for way in dict.fromkeys(row.way for row in rows if row.way != BASE_ROW):
        own = [row for row in rows if row.way == way]
        shown = [
            f"{label} {form(fmean(values))} ({form(min(values))} to {form(max(values))})"
            for label, form, values in (
                ("wins", "{:.1%}".format, [row.estimates["win_rate"].value for row in own]),
                ("KL", "{:.2f}".format, [row.estimates["kl"].value for row in own]),
                ("worst tax", "{:+.3f}".format, [min(row.tax.values()) for row in own if row.tax]),
            )
            if values
        ]
        lines.append(f"{way}, {len(own)} seeds: {'; '.join(shown)}")
    return lines


def main(
    family: Annotated[str, typer.Option(help="Configs without their ends.")] = "configs/pipeline/tiny",
    home: Annotated[Path, typer.Option(help="Keeps artifacts and table; a run goes on from what is there.")] = Path(".modelyard/alignment"),
    tflop: Annotated[float, typer.Option(help="What each way's own stages compute.")] = 2.0,
    target: Annotated[float, typer.Option(help="Nats a sequence that ways that sample hold.")] = 2.5,
    gain: Annotated[float, typer.Option(help="A fifth of it is the most that the charge changes in an iteration.")] = 0.5,
    seeds: int = 3,
    threads: int = 2,
    settings: Annotated[list[str], typer.Option("--set", help="Other keys of every config.", metavar="KEY=VALUE")] = [],
    report: Annotated[Path | None, REPORT] = None,
) -> int:
    """Build what is missing, then print the table and the means over seeds."""
    home = at_home(home)
    charge = f"policy.adaptive_kl={{target={target:g},gain={gain:g}}}"
    rows = planned(family, home, charge, seeds, [f"execution.threads={threads}", *settings])
    kept, found = report or home / "alignment-equal.json", list[Row]()

    def note(known: Sequence[Row]) -> None:
        found[:] = known
        kept.write_text(json.dumps([one.plain() for one in known], indent=1) + "\n", "utf-8")

    code = run_from_terminal(family, (), lambda *_: rows, lambda wanted: gone_through(wanted, tflop * 1e12, note))
    if code != DONE:
        return code
    terminal.console().print(table(found))
    for line in (*over_seeds(found), spread(found), str(kept)):
        terminal.console().print(line, highlight=False)
    return DONE


if __name__ == "__main__":
    sys.exit(program(main))
