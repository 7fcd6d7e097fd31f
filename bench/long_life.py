"""Many lines one after another in one home: what each takes, and what is left of it that nobody asked for.

The smallest line is run again and again with one store, one Prefect database and one MLflow server. Every line draws another seed for its gates;
every tenth trains another policy, which is measured, judged and registered. No process and no session folder of Ray's may be left after a line, and
no more of the scratch and temporary directories and of the server's open files than after the first lines. Databases and store grow by what lines
leave on purpose, which is printed a line. ``make long-life N=50``; the exit code is 0 only when nothing leaked.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
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
from modelyard.child_server import HOST, end
from modelyard.exit_codes import BLOCK, DONE, HOLD

POLICY_EVERY = 10
LIMIT_SECONDS = 900.0
"""A line that takes longer hangs."""
NOTHING = ("ray_sessions", "processes")
"""What no line may leave any of."""
NO_MORE = ("scratch", "temporary", "open_files")
"""What lines may not leave more and more of."""
OFTEN = 5
"""Lines that leave one thing more between them are taken for leaking; a database opens a file now and then."""
FEWEST = 5
"""Lines below which nothing can be said."""


class After(NamedTuple):
    """What stands in the home when a line has ended."""

    code: int
    seconds: float
    new_policy: bool
    scratch: int
    """Files and directories."""
    temporary: int
    """The same in the directory for temporary files, Ray's sessions apart."""
    ray_sessions: int
    processes: int
    open_files: int
    """Of the MLflow server and its children."""
    versions: int
    store_mb: float
    prefect_mb: float
    mlflow_mb: float


class Home:
    """The directory that all lines share, with its MLflow server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.temporary = self.directory / "tmp"
        self.temporary.mkdir(parents=True)
        self.ray = Path(tempfile.mkdtemp(prefix="r"))  # paths of its sockets must be short
        os.environ.update(TMPDIR=str(self.temporary), RAY_TMPDIR=str(self.ray))
        self.line = Line(self.directory, (self.directory / ".modelyard/store").as_uri())

    def close(self) -> None:
        """Stop what is still there."""
        for process in self.line.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.ray, ignore_errors=True)

    def live(self, number: int) -> After:
        """Run one line more and look around."""
        started = time.monotonic()
        with open(self.directory / "said", "w+") as said:  # a process that is left would keep a pipe open
            process = self.line.start(
                f"release.seed={number}", f"policy.seed={number // POLICY_EVERY}", "release.first=true", said=said.fileno()
            )
            code = process.wait(timeout=LIMIT_SECONDS)
            seconds = time.monotonic() - started
            if code not in (DONE, HOLD, BLOCK):
                said.seek(0)
                raise RuntimeError(f"line {number} ended with exit code {code}: {said.read().strip()[-300:]}")
        return self._around(code, seconds, number % POLICY_EVERY == 0)

    def _around(self, code: int, seconds: float, new_policy: bool) -> After:
        home, server = self.line.home, psutil.Process(self.line.server.pid)
        return After(
            code=code,
            seconds=seconds,
            new_policy=new_policy,
            processes=len(self.line.left()),
            scratch=len(list((home / "scratch").rglob("*"))),
            temporary=len(list(self.temporary.rglob("*"))),
            ray_sessions=sum(path.is_dir() and not path.is_symlink() for path in self.ray.rglob("session_*")),
            open_files=sum(process.num_fds() for process in [server, *server.children(recursive=True)]),
            versions=len(MlflowClient(f"http://{HOST}:{self.line.port}").search_model_versions("name='smallest'")),
            store_mb=megabytes([home / "store"]),
            prefect_mb=megabytes([home / "prefect"]),
            mlflow_mb=megabytes(home.glob("ml*")),
        )


def megabytes(places: Iterable[Path]) -> float:
    """What files and directories hold."""
    total = 0
    for place in places:
        for path in [place] if place.is_file() else place.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # a database's journal comes and goes
                total += path.stat().st_size if path.is_file() else 0
    return total / 1e6


def leaked(lives: Sequence[After]) -> list[str]:
    """What is left, and what the last lines have more of than those after the first. Raises ValueError for too few lines."""
    if len(lives) < FEWEST:
        raise ValueError(f"{len(lives)} lines say nothing; at least {FEWEST} do")
    found = [f"{name}: {most} left" for name in NOTHING if (most := max(getattr(one, name) for one in lives))]
    fifth = len(lives) // FEWEST
    for name in NO_MORE:
        before, after = (median(getattr(one, name) for one in part) for part in (lives[1 : 1 + fifth], lives[-fifth:]))
        if after - before >= (len(lives) - 1 - fifth) / OFTEN:
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
    lines: Annotated[int, typer.Option(min=FEWEST)] = 50,
    report: Annotated[Path | None, REPORT] = None,
    home: Annotated[Path | None, typer.Option(help="A new directory, which is kept.")] = None,
) -> int:
    """Run them; 0 when nothing leaked."""
    out = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    with tempfile.TemporaryDirectory(prefix="long-life-", ignore_cleanup_errors=True) as place:
        shared = Home(home or Path(place))
        lives: list[After] = []
        try:
            for number in range(lines):
                lives.append(shared.live(number))
                out.print(f"line {number}: {lives[-1].seconds:.0f} s, exit code {lives[-1].code}", markup=False)
        finally:
            show(lives, out)
            end(shared.line.server)
            shared.close()
    if report:
        report.write_text(json.dumps([one._asdict() for one in lives], indent=1))
    found = leaked(lives)
    out.print("\n".join(found) or "nothing leaked", markup=False)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(program(main))
