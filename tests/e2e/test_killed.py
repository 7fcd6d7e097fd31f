"""kill -9 in the middle of stages, one after another: the next run goes on, and what it makes is what an undisturbed run makes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from modelyard.adapters.servers.prefect_server import prefect_server
from tests.e2e.running import PIPELINE, STAGES, aliases, artifact, copy, is_built, line, start

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]

OFTEN = ["execution.checkpoint_every=2", "execution.checkpoint_iterations=1"]
CHECKPOINTED = {"forecast", "base", "reward", "gold", "policy"}
"""Stages that are killed once they have a checkpoint; the others, and SFT with its two steps, as soon as they work."""


def kill_in(stage: str, directory: Path) -> None:
    """Start the line and kill it in the middle of ``stage``."""
    process = start(directory, PIPELINE, *OFTEN)
    begun = f"{stage}-*/checkpoints/*" if stage in CHECKPOINTED else f"{stage}-*/out"
    deadline = time.monotonic() + 300
    while not list((directory / ".modelyard/scratch").glob(begun)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{stage} did not start"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not is_built(directory, stage), f"{stage}: killed too late to prove anything"


def orphans(directory: Path, seconds: float = 20) -> list[str]:
    """Command lines of processes of ``directory`` that are still there after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        found = subprocess.run(["pgrep", "-af", str(directory)], capture_output=True, text=True, check=False).stdout.splitlines()
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


@pytest.mark.parametrize("stages", [["base"], pytest.param(STAGES, marks=pytest.mark.slow)], ids=["pretraining", "every"])
def test_line_killed_in_stages_ends_as_an_undisturbed_one(finished, tmp_path, stages):
    directory = copy(finished[0], tmp_path / "killed", without=tuple(stages))
    with prefect_server(directory / ".modelyard/prefect"):  # the line finds this one: its start is not what is tested here
        for stage in stages:
            kill_in(stage, directory)
        done = line(directory, PIPELINE, *OFTEN)
    assert done.code == 0, done.err
    assert done.stages("built") == stages[-1:]
    assert aliases(directory) == {"candidate": "1", "production": "1"}
    for stage in STAGES:
        assert artifact(directory, stage)["files"] == artifact(finished[0], stage)["files"], stage
    assert not orphans(directory)
