"""In a world of machines (:mod:`tests.integration.machines`): a line on two, one lost on the way and replaced; says as JSON what came of it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from pathlib import Path

from modelyard.adapters.servers import object_store
from modelyard.store.storage import Storage
from tests.e2e.running import PIPELINE, SMALLEST, STAGES
from tests.integration.machines import SWITCH, Machine, switched, until

ROOT = Path(__file__).parents[2]
STORE, CHECKPOINTS = "s3://bucket/store", "s3://bucket/checkpoints"


def main(root: str, sources: str, *layout: str) -> None:
    """Everything below ``root``; ``sources``: what the line would fetch, which it cannot here."""
    switched()
    object_store.HOST = SWITCH
    port = object_store.free_port()
    os.environ |= object_store.environment(port, "modelyard", "modelyard-secret")
    server = object_store.start(Path(root) / "s3", port)
    object_store.wait(server, Path(root) / "s3" / "log", "bucket")

    disk = Path(root) / "disk"
    surroundings = {
        "MODELYARD_SCRATCH": str(disk / "scratch"),
        "MODELYARD_HOME": str(disk / "home"),
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # this process has only a loopback in mind
        "RAY_worker_niceness": "0",  # as our own clusters have it: workers of Ray's niceness starve beside a busy suite
    }
    first = Machine(2, disk, {**surroundings, "RAY_ADDRESS": "10.77.0.2:6379"})
    first.joins(sys.executable, "--head", "--port=6379", "--include-dashboard=false")
    second = Machine(3, disk, surroundings)
    second.joins(sys.executable, "--address=10.77.0.2:6379")
    shutil.copytree(sources, first.disk / ".modelyard" / "scratch" / "sources")
    stores = [f"execution.store={STORE}", f"execution.checkpoint_store={CHECKPOINTS}"]
    process = first.start(sys.executable, *PIPELINE, SMALLEST, *layout, *stores, cwd=disk)
    begun = "scratch/base-*/checkpoints/step_*/*.distcp"
    until(lambda: list(second.disk.glob(begun)), 900, process, "the base model's training did not begin on the second machine")
    second.lost()
    third = Machine(4, disk, surroundings)
    third.joins(sys.executable, "--address=10.77.0.2:6379")
    out, err = process.communicate()
    found = {
        "code": process.returncode,
        "out": out,
        "err": err,
        "third": sorted(str(p.relative_to(third.disk)) for p in third.disk.rglob("*")),
    }
    if process.returncode == 0:
        storage = Storage(STORE)
        found["files"] = {
            stage: [json.loads(storage.read(f"{stage}/{v}/artifact.json"))["files"] for v in storage.names(stage)] for stage in STAGES
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
