"""Runs on two ranks as if each had a machine and a disk of its own: trains, or goes on, up to a step; rank 0 prints the weights' hash as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import torch.distributed as dist

from modelyard.model.checkpoints import checkpoint
from modelyard.model.network import disks, parallel
from tests.integration.test_checkpoint_store import train


def main(root: str, store: str, steps: str) -> None:
    os.environ["LOCAL_WORLD_SIZE"] = "1"
    rank = os.environ["RANK"]
    seen: list[int] = []
    scratch = Path(root) / f"machine-{rank}"
    trained = train(scratch, store, steps=int(steps), seen=seen, data_parallel=2)
    checkpoint.wait()
    assert disks.is_first()
    assert not disks.is_shared()
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in trained.gpt.parameters())).hexdigest()
    kept = sorted(path.name for path in scratch.glob("base-1/checkpoints/step_*"))
    told: list[object] = [None, None]
    dist.all_gather_object(told, {"first": seen[0], "weights": digest, "kept": kept})
    if rank == "0":
        print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
    parallel.leave()
