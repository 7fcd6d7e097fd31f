"""Checkpoints in megatron-core's distributed format: written at one layout, read at any other.

A checkpoint directory counts only when its ``complete.json`` stands in it; that file is written last, after every rank has written its part, so a
kill at any moment leaves the checkpoint before as the newest complete one. megatron-core's own writer starts a manager process and one writer
process a bucket for each save, which costs seconds on a small machine; the same format is written here in the rank's own process.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist

COMPLETE = "complete.json"


def save(state: dict[str, Any], directory: Path, note: dict[str, Any]) -> None:
    """Write a sharded state dict; every rank calls it. ``note`` (step and the like) goes into ``complete.json``."""
    from megatron.core import dist_checkpointing

    if dist.get_rank() == 0:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    dist.barrier()
    dist_checkpointing.save(state, str(directory), sharded_strategy=_in_process_writer())
    dist.barrier()
    if dist.get_rank() == 0:
        partial = directory / f"{COMPLETE}.partial"
        partial.write_text(json.dumps(note))
        partial.replace(directory / COMPLETE)
    dist.barrier()


def load(state: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Read the tensors named by a sharded state dict from ``directory``; every rank calls it.

    Raises:
        ValueError: there is no complete checkpoint at ``directory``.
    """
    from megatron.core import dist_checkpointing

    if not (directory / COMPLETE).is_file():
        raise ValueError(f"{directory}: no complete checkpoint")
    return dict(dist_checkpointing.load(state, str(directory)))


def note(directory: Path) -> dict[str, Any]:
    """What was noted when the checkpoint was saved."""
    return dict(json.loads((directory / COMPLETE).read_text()))


def latest(root: Path) -> Path | None:
    """The complete checkpoint with the highest step under ``root`` (directories ``step_00000042``), or None."""
    complete = [path.parent for path in root.glob(f"step_*/{COMPLETE}")]
    return max(complete, default=None)


def prune(root: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` complete checkpoints, and half-written ones older than those. Rank 0 only."""
    if dist.get_rank() != 0:
        return
    newest = sorted(path.parent for path in root.glob(f"step_*/{COMPLETE}"))[-keep:]
    for path in root.glob("step_*"):
        if newest and path < newest[0]:
            shutil.rmtree(path, ignore_errors=True)


def step_directory(root: Path, step: int) -> Path:
    """``root/step_00000042``."""
    return root / f"step_{step:08d}"


def _in_process_writer() -> Any:
    from megatron.core.dist_checkpointing.strategies import torch as mcore
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

    class PlaceFreeWriter(FileSystemWriter):
        """Leaves out where and under which random id it wrote: equal weights are then equal bytes."""

        def storage_meta(self) -> None:
            """Nothing."""

    class InProcessWriter(mcore.TorchDistSaveShardedStrategy):
        """megatron-core's ``torch_dist`` format through torch's own file writer."""

        def save(self, sharded_state_dict: dict[str, Any], checkpoint_dir: Path) -> None:
            """Write this rank's shards."""
            renamed, _, _ = mcore._replace_state_dict_keys_with_sharded_keys(sharded_state_dict, self.keep_only_main_replica)
            dcp_save(
                mcore.mcore_to_pyt_state_dict(renamed, False),
                storage_writer=PlaceFreeWriter(checkpoint_dir, thread_count=1),
                planner=mcore.MCoreSavePlanner(dedup_replicated_tensors=False, flatten_state_dict=False),
            )

    return InProcessWriter("torch_dist", 1)
