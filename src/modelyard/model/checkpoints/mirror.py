"""Copies of checkpoints in a store (``file://`` or ``s3://``), for a machine that does not have them on its own disk.

Every rank uploads the files it wrote, and ``complete.json`` follows when all have done so; a checkpoint in the store is deleted the other way round.
So what a reader sees as complete is whole, whenever the writer was killed. An outage is the storage's to wait out.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints.checkpoint import COMPLETE, owner, steps, superseded, whole
from modelyard.progress import beat
from modelyard.store.storage import Storage

PARTIAL = "partial."
"""Before the name of a checkpoint that is being downloaded."""


class Mirror:
    """The store's checkpoints of one run; ``key`` names it there."""

    def __init__(self, url: str, key: str) -> None:
        self.storage, self.key = Storage(url), key

    def steps(self) -> list[str]:
        """Names of the complete checkpoints, oldest first."""
        return [name for name in steps(self.storage.names(self.key)) if self.has(name)]

    def has(self, name: str) -> bool:
        """Whether checkpoint ``name`` is complete there."""
        return self.storage.exists(f"{self.key}/{name}/{COMPLETE}")

    def copying(self, directory: Path) -> list[Callable[[], None]]:
        """The parts of copying the checkpoint at ``directory``: every rank runs each when the one before is done on all ranks."""
        return [functools.partial(part, directory) for part in (self.begin, self.upload, self.complete)]

    def begin(self, directory: Path) -> None:
        """Make room for a checkpoint: what an earlier try left is deleted. Rank 0 does it."""
        if dist.get_rank() == 0:
            self.remove(directory.name)

    def upload(self, directory: Path) -> None:
        """Upload the files that this rank wrote, on rank 0 also those that belong to no rank; every rank calls it, after :meth:`begin` is done."""
        for path in sorted(directory.iterdir()):
            if owner(path) == dist.get_rank() and path.name != COMPLETE:
                self.storage.put_file(path, f"{self.key}/{directory.name}/{path.name}")
                beat()

    def complete(self, directory: Path) -> None:
        """Declare the uploaded checkpoint whole, when all ranks are through. Rank 0 does it."""
        if dist.get_rank() == 0:
            self.storage.write(f"{self.key}/{directory.name}/{COMPLETE}", (directory / COMPLETE).read_bytes())

    def pull(self, name: str, root: Path) -> None:
        """Download checkpoint ``name`` to ``root/name``, but for files that an earlier try has brought whole; one rank calls it."""
        partial, key = root / f"{PARTIAL}{name}", f"{self.key}/{name}"
        partial.mkdir(parents=True, exist_ok=True)
        (partial / COMPLETE).write_bytes(self.storage.read(f"{key}/{COMPLETE}"))
        there = whole(partial)
        for path in partial.iterdir():
            if path.name not in there and path.name != COMPLETE:
                path.unlink()
        self.storage.get_files(key, [file for file in self.storage.names(key) if file not in there and file != COMPLETE], partial)
        shutil.rmtree(root / name, ignore_errors=True)
        partial.rename(root / name)

    def prune(self, last: int, every: int) -> None:
        """Delete the complete checkpoints that :func:`modelyard.model.checkpoints.checkpoint.superseded` picks. Rank 0 does it."""
        if dist.get_rank() == 0:
            for name in superseded(self.steps(), last, every):
                self.remove(name)

    def remove(self, name: str) -> None:
        """Delete a checkpoint, its mark of completeness first."""
        self.storage.remove(f"{self.key}/{name}/{COMPLETE}")
        self.storage.remove(f"{self.key}/{name}")


def of(execution: ExecutionConfig, checkpoints: Path) -> Mirror | None:
    """The mirror of the checkpoints under ``checkpoints``; named by their path below the scratch directory, the same on every machine."""
    if not execution.checkpoint_store:
        return None
    scratch, place = Path(execution.scratch).absolute(), checkpoints.absolute()
    return Mirror(
        execution.checkpoint_store, (place.relative_to(scratch) if place.is_relative_to(scratch) else Path(place.name)).as_posix()
    )
