"""Runs on two ranks as if each had a machine and a disk of its own: fine-tunes, or goes on, and is lost after a part of the steps."""

import contextlib
import os
import sys
from pathlib import Path

from modelyard.model.network import disks, parallel
from tests.unit.posttrain.test_kept_epochs import LostError, train


def main(world: str, root: str, store: str, until: str) -> None:
    os.environ["LOCAL_WORLD_SIZE"] = "1"
    inputs = {name: Path(world) / name for name in ("base", "feedback")}
    with contextlib.suppress(LostError):
        train(inputs, Path(root) / f"machine-{os.environ['RANK']}", store, float(until), data_parallel=2)
    assert not disks.is_shared()


if __name__ == "__main__":
    main(*sys.argv[1:])
    parallel.leave()
