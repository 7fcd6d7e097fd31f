"""kill -9 of a line in the middle of a stage, and what must not be left of it."""

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.e2e.running import PIPELINE, is_built, start

OFTEN = ["execution.checkpoint_every=2", "execution.checkpoint_iterations=1"]
CHECKPOINTED = {"forecast", "base", "reward", "gold", "policy"}
"""Stages that are killed once they have a checkpoint; the others, and SFT with its two steps, as soon as they work."""


def kill_in(stage: str, directory: Path) -> str:
    """Start the line and kill it in the middle of ``stage``; what it printed."""
    process = start(directory, PIPELINE, *OFTEN)
    begun = f"{stage}-*/checkpoints/*" if stage in CHECKPOINTED else f"{stage}-*/out"
    deadline = time.monotonic() + 300
    while not list((directory / ".modelyard/scratch").glob(begun)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{stage} did not start"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    printed, _ = process.communicate()
    assert not is_built(directory, stage), f"{stage}: killed too late to prove anything"
    return printed


def orphans(directory: Path, seconds: float = 20) -> list[str]:
    """Command lines of processes of ``directory`` that are still there after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        found = subprocess.run(["pgrep", "-af", str(directory)], capture_output=True, text=True, check=False).stdout.splitlines()
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)
