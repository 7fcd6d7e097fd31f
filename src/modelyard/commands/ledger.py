"""``modelyard ledger``: all forecasts of a store, their results and their errors."""

from __future__ import annotations

import json as json_format
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.commands.command import say
from modelyard.commands.outputs import json_option, write
from modelyard.commands.tables import table

if TYPE_CHECKING:
    from modelyard.scaling.ledger import Entry

HEAD = ("forecast", "sealed (UTC)", "FLOPs", "reach", "predicted [95%]", "measured", "error", "right answers", "seal")
STORE = typer.Option(help="URL of the artifact store; without it, the store of this directory's runs.")


def ledger(
    store: Annotated[str | None, STORE] = None,
    json: Annotated[Path | None, json_option("Where the entries go, as JSON.")] = None,
) -> None:
    """List every forecast of a store with its result and its error."""
    from modelyard.execution import ExecutionConfig
    from modelyard.scaling.ledger import entries
    from modelyard.store.artifacts import Store

    url = store or ExecutionConfig().store
    found = entries(Store(url, ExecutionConfig().scratch))
    if json:
        rows = [{**entry._asdict(), "error": entry.error, "inside": entry.inside} for entry in found]
        write(json, json_format.dumps(rows, indent=1) + "\n")
    say(page(found) if found else f"no forecasts in {url}\n", nl=False)


def page(entries: Sequence[Entry]) -> str:
    """The ledger as text, and its summary."""
    lines = table(HEAD, [row(entry) for entry in entries], right=HEAD[2:-1])
    judged = [entry for entry in entries if entry.error is not None and entry.sealed_before]
    if not judged:
        return lines
    typical = statistics.median(abs(entry.error or 0.0) for entry in judged)
    inside = sum(bool(entry.inside) for entry in judged)
    claimed, missed = (sum(found or 0 for found in every) for every in zip(*((one.claimed, one.missed) for one in judged), strict=True))
    answers = f"; {claimed - missed} of {claimed} buckets of right answers as forecast" if claimed else ""
    return f"{lines}{len(judged)} judged: median error {typical:.2%}, {inside} inside their interval{answers}\n"


def row(entry: Entry) -> tuple[str, ...]:
    """A forecast's cells."""
    seals = {True: "before the run", False: "AFTER THE RUN BEGAN", None: "-" if entry.base is None else "unknown"}
    return (
        entry.forecast,
        time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.sealed_at)) if entry.sealed_at else "not recorded",
        f"{entry.at_compute:.3g}" if entry.at_compute else "?",
        f"{entry.reach:.0f}x" if entry.reach else "?",
        f"{entry.predicted:.4f} [{entry.low:.4f}, {entry.high:.4f}]",
        "-" if entry.measured is None else f"{entry.measured:.4f}",
        "-" if entry.error is None else f"{entry.error:+.2%}",
        f"{entry.claimed - entry.missed} of {entry.claimed}" if entry.claimed and entry.missed is not None else "-",
        seals[entry.sealed_before],
    )
