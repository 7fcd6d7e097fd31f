"""A pipeline run that gets SIGTERM outside of a worker group ends in order, in one line, and leaves no process."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from modelyard.exit_codes import FAILED

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

PROGRAM = """
import sys, time
from pathlib import Path
from prefect import flow, task
from bench.program import program
from tasks.session import run_from_terminal

@task
def works():
    if len(sys.argv) > 1:
        from modelyard.adapters.ray import cluster

        cluster.connect()  # which has a handler of its own for SIGTERM
    Path("works").touch()
    time.sleep(600)

@flow
def line(config):
    works()

def main() -> int:
    return run_from_terminal("line.toml", [], lambda file, overrides: None, line)

sys.exit(program(main, []))
"""


@pytest.mark.parametrize("arguments", [[], ["ray"]], ids=["plain", "ray"])
def test_run_that_gets_sigterm_ends_in_one_line_and_leaves_no_process(tmp_path, arguments):
    command = [sys.executable, "-c", PROGRAM, *arguments]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "works").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, err.splitlines()[-1]) == (FAILED, "interrupted; the next run goes on from the last checkpoint"), (out, err)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


BESIDE = """
import signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from prefect import flow, task
import tasks.line
from bench.program import program
from modelyard.adapters.ray.fit import sigterm
from modelyard.execution import ExecutionConfig
from tasks.build import Place
from tasks.session import run_from_terminal

@task
def stage(name, place):
    if name == "fails":
        raise OSError("no such thing")
    Path(name).touch()
    time.sleep(3 if name == "c" else 0)  # it listens when the others have ended
    with sigterm() as told:  # as a stage on ranks is followed
        told.wait(600)
    Path(name).write_text("ended in order")

def task_of(name):
    if name == "interrupted":
        while not Path("a").exists():
            time.sleep(0.05)
        raise KeyboardInterrupt
    return Interrupting() if name == "c" else stage

class Interrupting:
    def submit(self, name, place):  # Ctrl-C when the stage is under way and the line does not know it yet
        begun = stage.submit(name, place)
        while not Path(name).exists():
            time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)
        return begun

@flow
def line(config):
    tasks.line._task = task_of
    tasks.line.spec_of = lambda name, place: SimpleNamespace(name=name, version="0")
    built = object.__new__(tasks.line.Line)
    built.place = Place("beside", ExecutionConfig(store=f"file://{Path.cwd()}/store", scratch="scratch"))
    built._beside_each_other(sys.argv[1:])

def main() -> int:
    return run_from_terminal("line.toml", [], lambda file, overrides: None, line)

sys.exit(program(main, []))
"""


@pytest.mark.parametrize(
    ("stages", "number", "said"),
    [
        (["a", "b"], signal.SIGINT, "interrupted; the next run goes on from the last checkpoint"),
        (["a", "interrupted"], None, "interrupted; the next run goes on from the last checkpoint"),
        (["a", "c"], None, "interrupted; the next run goes on from the last checkpoint"),
        (["a", "b"], signal.SIGTERM, ""),
        (["a", "fails"], None, "no such thing"),
    ],
    ids=["ctrl-c", "ctrl-c while stages begin", "ctrl-c when the second has begun", "sigterm", "a stage fails"],
)
def test_stages_beside_each_other_all_end_when_the_run_does(tmp_path, stages, number, said):
    command = [sys.executable, "-c", BESIDE, *stages]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    going = [name for name in stages if name in ("a", "b", "c")]
    while not all((tmp_path / name).exists() for name in going):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    if number:
        os.kill(process.pid, number)
    out, err = process.communicate(timeout=240)
    if number == signal.SIGTERM:
        assert (process.returncode, err) == (0, ""), "these stages end well; Ray says nothing of signals"
    else:
        assert process.returncode == FAILED, (out, err)
        assert said in err.splitlines()[-1]
    assert [(tmp_path / name).read_text() for name in going] == ["ended in order"] * len(going)
