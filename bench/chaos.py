"""The chaos proof: a small line is run again and again, each time a random process of it is killed (kill -9) at a random time, and then it goes on.

Every run has a store of its own on one real S3 server (SeaweedFS), an MLflow server and a Prefect server of its own, and its own local Ray. A server
that was killed is started again two seconds later, as a supervisor would; a line that ended is started again until it is through. What it made is
then held against an undisturbed run's: fingerprint, files, sha256. Run it with ``make chaos N=20 [SEED=0]``; the exit code is 0 only when every run
ended with the very same artifacts, without a hang and without a process left behind.

``repeated`` counts optimizer steps (for PPO iterations) that MLflow has seen twice: work done since the last checkpoint. What a killed flow had not
yet handed over (at most two seconds of it) is not in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from bench.chaos_line import Line, victims
from bench.program import REPORT, program
from modelyard.adapters.servers import object_store
from modelyard.child_server import HOST, die_with_parent, end, healthy

RESTART_SECONDS = 2.0
TRIES = 4


class Outcome(NamedTuple):
    """One run of the campaign."""

    killed: str
    after: float
    """Seconds from the start of the line."""
    stage: str
    ended: str
    """What the disturbed line did: went on, or its last line."""
    tries: int
    repeated: int
    differing: list[str]
    orphans: list[str]
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, wrong or left behind."""
        return self.tries <= TRIES and "hung" not in self.ended and not self.differing and not self.orphans


class Campaign:
    """The S3 server and the runs on it."""

    def __init__(self, directory: Path, chance: random.Random, say: Callable[[str], None]) -> None:
        self.directory, self.chance, self.say = directory, chance, say
        self.port = object_store.free_port()
        os.environ.update(object_store.environment(self.port, "chaos", f"{chance.getrandbits(128):032x}"))
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self.store = self.start_store()

    def start_store(self) -> subprocess.Popen[bytes]:
        """SeaweedFS on the campaign's data."""
        server = object_store.start(self.directory / "s3", self.port, preexec=die_with_parent)
        object_store.wait(server, self.directory / "s3/log", "chaos")
        return server

    def calm(self) -> tuple[dict[str, tuple[str, str]], float]:
        """What an undisturbed run makes, and its seconds."""
        line = Line(self.directory / "calm", "s3://chaos/calm")
        started = time.monotonic()
        process = line.start()
        _, said = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the undisturbed run failed: {said}")
        seconds = time.monotonic() - started
        made = line.made()
        end(line.server)
        return made, seconds

    def disturbed(self, number: int, calm: dict[str, tuple[str, str]], seconds: float) -> Outcome:
        """One run with one kill."""
        line = Line(self.directory / f"run{number}", f"s3://chaos/run{number}")
        started = time.monotonic()
        process = line.start()
        delay = self.chance.uniform(0.05, 0.95) * seconds
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        killed, stage = self._kill(line), line.stage()
        self.say(f"run {number}: {killed} killed after {delay:.0f} s in {stage}")
        ended, tries = self._end(line, process, 4 * seconds), 1
        orphans = line.left() if ended != "went on" else []
        while ended != "went on" and tries <= TRIES:
            tries += 1
            last = self._end(line, line.start(), 4 * seconds)
            if last == "went on":
                break
            ended = f"{ended}; then {last}"
        orphans += line.left()
        made, repeated = line.made(), line.repeated()
        differing = sorted(name for name in {*made, *calm} if made.get(name) != calm.get(name))
        end(line.server)
        return Outcome(killed, delay, stage, ended, tries, repeated, differing, orphans, time.monotonic() - started)

    def _kill(self, line: Line) -> str:
        there = victims(line, self.store)
        kind = self.chance.choice(sorted(there))
        victim = self.chance.choice(sorted(there[kind], key=lambda process: process.pid))
        what = f"{kind} ({victim.cmdline()[0]})" if kind == "ray worker" else kind
        victim.send_signal(signal.SIGKILL)
        if kind in ("mlflow server", "s3 server"):
            time.sleep(RESTART_SECONDS)
        if kind == "mlflow server" and (line.server.poll() is not None or not healthy(f"http://{HOST}:{line.port}/health")):
            os.killpg(line.server.pid, signal.SIGKILL)  # the rest of it, as a supervisor does
            line.server.wait()
            line.server = line.start_tracking()
        if kind == "s3 server":
            self.store.wait()
            self.store = self.start_store()
        return what

    def _end(self, line: Line, process: subprocess.Popen[str], limit: float) -> str:
        """``went on`` when the line came through, else its last line or what else became of it."""
        try:
            _, said = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return f"hung for {limit:.0f} s"
        if process.returncode == 0:
            return "went on"
        if process.returncode < 0:
            return "died"
        return said.strip().splitlines()[-1][:160] if said.strip() else f"exit {process.returncode}"


def undisturbed(campaign: Campaign, kept: Path | None) -> tuple[dict[str, tuple[str, str]], float]:
    """What the undisturbed run makes: run now, or kept from an earlier campaign with the same code."""
    if kept is not None and kept.is_file():
        found = json.loads(kept.read_text())
        return {name: (identity[0], identity[1]) for name, identity in found["made"].items()}, float(found["seconds"])
    made, seconds = campaign.calm()
    if kept is not None:
        kept.write_text(json.dumps({"made": made, "seconds": seconds}))
    return made, seconds


def show(outcomes: Sequence[Outcome], out: Console) -> None:
    """The table."""
    table = Table(title="kill -9", title_justify="left")
    for name in ("run", "killed", "after", "in", "the line", "starts", "repeated", "artifacts", "orphans", "seconds"):
        table.add_column(name, overflow="fold")
    for number, one in enumerate(outcomes):
        identical = "identical" if not one.differing else f"differ: {', '.join(one.differing)}"
        row = (number, one.killed, f"{one.after:.0f} s", one.stage, one.ended, one.tries, one.repeated, identical)
        table.add_row(*map(str, row), "; ".join(one.orphans) or "none", f"{one.seconds:.0f}")
    out.print(table)


def main(
    runs: int = 20,
    seed: Annotated[int, typer.Option(help="Which processes are killed when.")] = 0,
    first: Annotated[int, typer.Option(help="Begin with this run of the seed's.")] = 0,
    calm: Annotated[
        Path | None, typer.Option(help="Keeps what the undisturbed run made; taken from there where it is kept already.")
    ] = None,
    report: Annotated[Path | None, REPORT] = None,
) -> int:
    """Run the campaign; 0 when every run was good."""
    out = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as place:
        campaign = Campaign(Path(place), random.Random(seed), lambda line: out.print(line, markup=False))
        outcomes = []
        try:
            made, seconds = undisturbed(campaign, calm)
            out.print(f"undisturbed: {len(made)} artifacts in {seconds:.0f} s")
            for number in range(first, first + runs):
                campaign.chance = random.Random(f"{seed}/{number}")
                outcomes.append(campaign.disturbed(number, made, seconds))
                out.print(f"  {outcomes[-1]}", markup=False)
        finally:
            os.killpg(campaign.store.pid, signal.SIGKILL)
            show(outcomes, out)
    if report:
        report.write_text(json.dumps([one._asdict() for one in outcomes], indent=1))
    return 0 if len(outcomes) == runs and all(one.is_good for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(program(main))
