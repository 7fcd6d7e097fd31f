"""``modelyard data plan``: what a corpus of any size would take, by the costs of a small sample of a config's own sources."""

from __future__ import annotations

import json as json_format
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.commands.command import say
from modelyard.commands.data import OVERRIDES
from modelyard.commands.numbers import at_least, between, size
from modelyard.commands.outputs import json_option, write
from modelyard.commands.tables import table

if TYPE_CHECKING:
    from modelyard.data.corpus.plan import Plan

CONFIG = typer.Argument(help="TOML file with the table corpus; a pipeline's file will do.")
BYTES = typer.Option("--bytes", metavar="SIZE", help="Text of the corpus, uncompressed: 100TB, 5 GiB or a number.", parser=size)
WORKERS = typer.Option(help="Workers, one core each.", callback=between(1, 1_000_000))
RATE = typer.Option(metavar="PRICE", help="Price of one core for an hour, in any currency.", callback=at_least(0))
MEMORY = typer.Option(help="Memory of a worker, in GiB.", callback=between(0, 1e6, ends=False))
READS = typer.Option(help="Random reads a second of a worker's disk.", callback=between(0, 1e12, ends=False))
SAMPLE = typer.Option(metavar="MB", help="Text of the sample, all sources together.", callback=between(0, 10_000, ends=False))


def plan(
    config: Annotated[Path, CONFIG],
    wanted: Annotated[float, BYTES],
    workers: Annotated[int, WORKERS],
    rate: Annotated[float, RATE],
    memory_gib: Annotated[float, MEMORY] = 8.0,
    disk_reads: Annotated[float, READS] = 50_000.0,
    sample: Annotated[float, SAMPLE] = 8.0,
    json: Annotated[Path | None, json_option("Where plan and costs go, as JSON.")] = None,
    overrides: Annotated[list[str], OVERRIDES] = [],
) -> None:
    """Plan a corpus of another size: hours, memory, spill and price, from a sample of the config's own sources.

    The sources are fetched as for a build, and the filters are trained or found; nothing else is built.
    """
    from modelyard.config import load_config
    from modelyard.data import build as data
    from modelyard.data.corpus import plan as planning
    from modelyard.data.corpus.costs import measure

    asked = planning.Wanted(bytes=wanted, workers=workers, rate=rate, memory_gib=memory_gib, disk_reads=disk_reads)
    stage = load_config(data.DataConfig, config, overrides)
    costs = measure(stage.corpus, data.store_of(stage), stage.execution.roots, sample, time.process_time)
    made = planning.plan(costs, asked, stage.corpus.blocks)
    if json:
        parts = {"plan": made, "wanted": asked, "costs": costs}
        write(json, json_format.dumps({name: part.model_dump() for name, part in parts.items()}, indent=1) + "\n")
    lines = {"advice": planning.advice(made, costs), "assumed": planning.assumptions(costs, asked, stage.corpus.blocks)}
    say(page(made, lines), nl=False)


def page(made: Plan, lines: Mapping[str, Sequence[str]]) -> str:
    """The plan as text, with lists of ``lines`` by heading."""
    head = ("step", "on", "core hours", "hours")
    steps = [(step.name, step.on, number(step.core_hours), number(step.hours)) for step in made.steps]
    rows = {
        "hours": f"{number(made.hours)} ({number(made.hours / 24)} days); {number(made.least_hours)} of them the driver's, however many workers; "
        f"{number(made.hours_alike)} in all if a document met no more others than in the sample",
        "price": number(made.price),
        "documents": f"{number(made.documents)} read, {number(made.kept)} kept, in {made.shards:,} shards and {made.blocks:,} blocks",
        "memory": f"driver {amount(made.driver_bytes)}, worker {amount(made.worker_bytes)}",
        "index": f"{amount(made.index_bytes)} in {number(made.runs)} runs on average, {number(made.comparisons)} comparisons",
        "spilled": f"{amount(made.spilled_bytes)} of the index to the workers' disks",
        "written": f"{amount(made.output_bytes)} of documents and rejects",
    }
    shown = "".join(f"{name:<10}{value}\n" for name, value in rows.items())
    lists = (f"\n{heading}:\n" + "".join(f"- {line}\n" for line in some) for heading, some in lines.items() if some)
    return table(head, steps, right=head[2:]) + "\n" + shown + "".join(lists)


def number(value: float) -> str:
    """Three digits of small and of huge numbers, all of those before the point of large ones."""
    return f"{value:,.0f}" if 100 <= value < 1e12 else f"{value:.3g}"


def amount(value: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if value < 1000 or unit == "PB":
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"
        value /= 1000
    raise AssertionError
