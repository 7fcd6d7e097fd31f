"""``modelyard check``: what a run of a config would do, before any work.

The stages with what the store has of them, how long their newest builds took by MLflow's record, how much memory a rank
needs, this machine's GPUs, what is missing, and which benchmarks will have too few items to decide.
"""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from modelyard.commands.command import say
from modelyard.commands.outputs import json_option, write
from modelyard.commands.project import part
from modelyard.commands.tables import table
from modelyard.exit_codes import BAD_INPUT, DONE

CONFIG = typer.Argument(help="TOML file of the pipeline.")
OVERRIDES = typer.Argument(metavar="KEY=VALUE...", help="Overrides with dotted keys.", show_default=False)
HEAD = ("stage", "", "last build", "memory of a rank", "artifact")
SHOWN_KEYS = 3
GIB, MIB = 1 << 30, 1 << 20


def check(
    config: Annotated[str, CONFIG],
    overrides: Annotated[list[str], OVERRIDES] = [],
    json: Annotated[Path | None, json_option("Where the answer goes, as JSON.")] = None,
) -> int:
    """Say what a run would build, what is cached, how long and how much memory it takes, and what is missing. Nothing is started.

    Exit code 2: a run would be refused, for the reasons given.
    """
    found = part("tasks.outlook").outlook(part("flows.pipeline_config").load_pipeline(config, overrides))
    if json:
        answer = {**found._asdict(), "rows": [row._asdict() for row in found.rows]}
        write(json, json_format.dumps(answer, indent=1) + "\n")
    say(table(HEAD, [cells(row) for row in found.rows], right=HEAD[2:4]) + summary(found.rows), nl=False)
    say(f"store: {found.store}")
    if found.gpus:
        say(f"GPUs of this machine: {found.gpus}")
    if found.fetched:
        say(f"fetched with pip first: {', '.join(found.fetched)}")
    for line in found.few:
        say(f"warning: {line}")
    for line in found.missing:
        say(f"missing: {line}")
    return BAD_INPUT if found.missing else DONE


def cells(row: Any) -> tuple[str, ...]:
    """A stage's cells; a row is ``tasks.outlook``'s."""
    if row.cached:
        return row.stage, "cached", "", "", row.artifact
    changed = [*row.changed[:SHOWN_KEYS], *(["..."] if len(row.changed) > SHOWN_KEYS else [])]
    took = "unknown" if row.seconds is None else f"{row.seconds:,.0f} s"
    state = "every run" if row.anew else "to build"
    return row.stage, state, took, size(row.bytes), f"since then: {', '.join(changed)}" if changed else row.artifact


def summary(rows: Sequence[Any]) -> str:
    """How much there is to build, how long it took before, and the largest memory, as lines of text."""
    built = [row for row in rows if not row.cached]
    if all(row.anew for row in built):
        return "all stages are cached; a run decides and registers\n"
    known = [row.seconds for row in built if row.seconds is not None]
    unknown = len(built) - len(known)
    times = f"{sum(known):,.0f} s by their newest builds" if known else "no earlier build is recorded"
    lines = f"{len(built)} of {len(rows)} stages to build: {times}{f', {unknown} never built' if known and unknown else ''}\n"
    if sized := [row for row in built if row.bytes]:
        most = max(sized, key=lambda row: row.bytes)
        lines += f"at least {size(most.bytes)} of memory on a rank ({most.stage})\n"
    return lines


def size(needed: int | None) -> str:
    """Bytes as people read them; "" where they are not known."""
    if needed is None:
        return ""
    return f"{needed / GIB:,.1f} GiB" if needed >= GIB else f"{max(1, round(needed / MIB))} MiB"
