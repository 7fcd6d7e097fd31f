"""What orchestration costs: wall time of a line less the time inside its stages, and the wall time of the same line when everything is cached.

``make bench-line`` runs the tiny line in a directory of its own, twice; ``python -m bench.line CONFIG
[KEY=VALUE ...]`` any other. Where the rest goes is read from what the run itself recorded: Prefect's task
runs and the stages' own seconds (their manifests). Starting the worker group counts as time of the stage that
waits for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from rich.console import Console
from rich.table import Table

from bench.program import program
from modelyard.adapters.servers.prefect_server import prefect_server
from modelyard.model.network import processor
from modelyard.store.artifacts import Store
from modelyard.store.lineage import all_artifacts
from modelyard.store.manifest import Artifact

ROOT = Path(__file__).parents[1]


class Timed(NamedTuple):
    """One run of the line."""

    wall: float
    inside: float
    """Seconds in stages that were built."""
    parts: dict[str, float]
    """Where the rest went."""


def run(directory: Path, config: str, overrides: Sequence[str]) -> Timed:
    """Run the line in ``directory`` and take it apart."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    before = {made.ref for made in artifacts(directory)}
    command = [sys.executable, "-m", "modelyard", "run", str(Path(config).absolute()), *overrides]
    began = time.time()
    subprocess.run(command, cwd=directory, env=environment, check=True, stdout=subprocess.DEVNULL)
    ended = time.time()
    built = {made.name: made.seconds for made in artifacts(directory) if made.ref not in before}
    with prefect_server(directory / ".modelyard/prefect") as server:
        client = SyncPrefectClient(server.api, auth_string=server.auth)
        flow = max(client.read_flow_runs(), key=lambda found: str(found.created))
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow.id])))
    return Timed(ended - began, sum(built.values()), taken_apart(began, ended, built, tasks))


def artifacts(directory: Path) -> list[Artifact]:
    """Finished artifacts of the line's store."""
    return list(all_artifacts(Store(f"file://{directory}/.modelyard/store", str(directory / "scratch"))))


def taken_apart(began: float, ended: float, built: dict[str, float], tasks: Sequence[TaskRun]) -> dict[str, float]:
    """Seconds outside of stages, by where they went."""
    spans = sorted((run.start_time.timestamp(), run.end_time.timestamp(), run.name) for run in tasks if run.start_time and run.end_time)
    parts = {"before the first task (imports, config, Prefect server)": spans[0][0] - began}
    parts["after the last task (goodbye to Prefect and Ray)"] = ended - max(end for _, end, _ in spans)
    around = 0.0
    for start, end, name in spans:
        if name in built:
            around += end - start - built[name]
        else:
            parts[f"task {name}"] = parts.get(f"task {name}", 0.0) + end - start
    if built:
        parts["around stages (look-up, hashing, commit, MLflow, pages)"] = around
    parts["between tasks"] = sum(max(0.0, after[0] - one[1]) for one, after in pairwise(spans))
    return parts


def show(title: str, timed: Timed, out: Console) -> None:
    """One run as a table."""
    rest = timed.wall - timed.inside
    table = Table(title=f"{title}: {timed.wall:.1f} s, in stages {timed.inside:.1f} s, the rest {rest:.1f} s ({rest / timed.wall:.1%})")
    table.add_column("where the rest goes")
    table.add_column("seconds", justify="right")
    small = 0.0
    for name, seconds in sorted(timed.parts.items(), key=lambda item: -item[1]):
        if seconds < 0.1:
            small += seconds
            continue
        table.add_row(name, f"{seconds:.1f}")
    table.add_row("under 0.1 s each", f"{small:.1f}")
    table.add_row("not accounted for", f"{rest - sum(timed.parts.values()):.1f}")
    out.print(table)


def main(
    config: Annotated[str, typer.Argument(help="TOML file of a pipeline.")] = str(ROOT / "configs/pipeline/tiny.toml"),
    overrides: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...")] = [],
) -> None:
    """Build, then find everything."""
    out = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    out.print(processor.description())
    with tempfile.TemporaryDirectory(prefix="line-") as place:
        for title in ("everything built", "everything cached"):
            show(title, run(Path(place), config, overrides), out)


if __name__ == "__main__":
    sys.exit(program(main))
