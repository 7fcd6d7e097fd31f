"""Many lines one after another in one home: what each takes, and what is left of it that nobody asked for.

The smallest line is run again and again with one store, one Prefect database and one MLflow server. Every line draws another seed for its gates;
every tenth trains another policy, which is measured, judged and registered. Afterwards there must be no more files in the scratch directory, no more
of Ray's session folders, processes and open files of the server than after the first lines. Databases and store grow by what lines leave on
purpose, which is printed a line. ``make long-life N=50``; the exit code is 0 only when nothing leaked.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import psutil
import typer
from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table

from bench.chaos_line import Line
from bench.program import REPORT, program
from modelyard.adapters.servers.child import HOST, end
from modelyard.exit_codes import BLOCK, DONE, HOLD

POLICY_EVERY = 10
LEAKS = ("scratch_files", "ray_sessions", "processes", "open_files")
"""What no line may leave more of."""
SLACK = 1.1
"""How much more the last fifth of the lines may have than those after the first: databases open a file here and there."""


class After(NamedTuple):
    """What stands in the home when a line has ended."""

    code: int
    seconds: float
    new_policy: bool
    scratch_files: int
    ray_sessions: int
    processes: int
    open_files: int
    """Of the MLflow server and its children."""
    versions: int
    store_mb: float
    prefect_mb: float
    mlflow_mb: float


def lived(line: Line, number: int) -> After:
    """Run one line more and look around."""
    policy = number // POLICY_EVERY
    started = time.monotonic()
    process = line.start(f"release.seed={number}", f"policy.seed={policy}", "release.first=true")
    _, said = process.communicate()
    seconds = time.monotonic() - started
    if process.returncode not in (DONE, HOLD, BLOCK):
        raise RuntimeError(f"line {number} ended with exit code {process.returncode}: {said.strip()[-300:]}")
    left = line.left()
    return After(
        code=process.returncode,
        seconds=seconds,
        new_policy=number % POLICY_EVERY == 0,
        scratch_files=sum(1 for path in (line.home / "scratch").rglob("*") if path.is_file()),
        ray_sessions=len(list((line.home / "ray-sessions").glob("session_*"))),
        processes=len(left),
        open_files=open_files(line.server.pid),
        versions=len(MlflowClient(f"http://{HOST}:{line.port}").search_model_versions("name='smallest'")),
        store_mb=megabytes([line.home / "store"]),
        prefect_mb=megabytes([line.home / "prefect"]),
        mlflow_mb=megabytes(line.home.glob("ml*")),
    )


def open_files(pid: int) -> int:
    """Descriptors of a process and its children."""
    server = psutil.Process(pid)
    return sum(process.num_fds() for process in [server, *server.children(recursive=True)])


def megabytes(places: Iterable[Path]) -> float:
    """What files and directories hold."""
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*"))]
    return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def leaked(lives: Sequence[After]) -> list[str]:
    """What the last lines have more of than those after the first policy."""
    fifth = max(len(lives) // 5, 1)
    early, late = lives[1 : 1 + fifth] or lives, lives[-fifth:]
    found = []
    for name in LEAKS:
        before, after = (median(getattr(one, name) for one in part) for part in (early, late))
        if after > before * SLACK:
            found.append(f"{name}: {before:g} after the first lines, {after:g} after the last")
    return found


def show(lives: Sequence[After], out: Console) -> None:
    """The table, and what a line adds."""
    table = Table(title="one home", title_justify="left")
    for name in ("line", *After._fields):
        table.add_column(name.replace("_", " "), justify="right")
    for number, one in enumerate(lives):
        table.add_row(str(number), *(f"{value:.1f}" if isinstance(value, float) else str(value) for value in one))
    out.print(table)
    if len(lives) > 1:
        grown = {name: 1000 * (getattr(lives[-1], name) - getattr(lives[0], name)) / (len(lives) - 1) for name in After._fields[-3:]}
        out.print("a line adds " + ", ".join(f"{name.removesuffix('_mb')} {kilobytes:.0f} kB" for name, kilobytes in grown.items()))


def main(
    lines: int = 50, report: Annotated[Path | None, REPORT] = None, home: Annotated[Path | None, typer.Option(help="Kept.")] = None
) -> int:
    """Run them; 0 when nothing leaked."""
    out = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    with tempfile.TemporaryDirectory(prefix="long-life-", ignore_cleanup_errors=True) as place:
        directory = home or Path(place)
        line = Line(directory, (directory / ".modelyard/store").absolute().as_uri())
        lives: list[After] = []
        try:
            for number in range(lines):
                lives.append(lived(line, number))
                out.print(f"line {number}: {lives[-1].seconds:.0f} s, exit code {lives[-1].code}", markup=False)
        finally:
            show(lives, out)
            end(line.server)
    if report:
        report.write_text(json.dumps([one._asdict() for one in lives], indent=1))
    found = leaked(lives)
    out.print("\n".join(found) or "nothing leaked", markup=False)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(program(main))
