"""Checkpoints that come from the store when a run goes on: the newest, an older one only when that is damaged, and those of a list."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist

from modelyard.complaint import complaint
from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints import checkpoint, mirror
from modelyard.model.checkpoints.writer import CheckpointError
from modelyard.model.network import disks


def newest(roots: Sequence[Path], execution: ExecutionConfig) -> Path | None:
    """The newest checkpoint, here or in ``execution.checkpoint_store``, that is undamaged under every one of ``roots``, or None; it is under the
    first of them then. Every rank calls it and gets the same answer.

    Raises:
        CheckpointError: the store cannot be read; starting over without what it holds would be worse.
    """
    stored, found = _stored(roots, execution), None
    for name in stored:
        if found is None or found.name < name:
            _bring(name, roots, execution)
            found = checkpoint.latest(*roots)
    return found if stored else checkpoint.latest(*roots)


def _stored(roots: Sequence[Path], execution: ExecutionConfig) -> list[str]:
    """The newest ``execution.keep_last`` checkpoints that the store has whole under every root, newest first."""
    box: list[list[str]] = [[]]
    stores = [store for root in roots if (store := mirror.of(execution, root)) is not None]
    if stores and dist.get_rank() == 0:
        try:
            common = set.intersection(*({*store.steps()} for store in stores))
        except Exception as error:
            raise _unreadable(error, execution) from error
        box = [sorted(common, reverse=True)[: execution.keep_last]]
    dist.broadcast_object_list(box, 0)
    return box[0]


def bring(names: Sequence[str], root: Path, execution: ExecutionConfig) -> None:
    """Download those of the checkpoints ``names`` that the store has whole and the disk has not under ``root``; every rank calls it.

    Raises:
        CheckpointError: the store cannot be read.
    """
    box: list[list[str]] = [[]]
    store = mirror.of(execution, root)
    if store is not None and dist.get_rank() == 0:
        try:
            box = [[name for name in names if store.has(name)]]
        except Exception as error:
            raise _unreadable(error, execution) from error
    dist.broadcast_object_list(box, 0)
    for name in box[0]:
        _bring(name, [root], execution)
    dist.barrier()


def _bring(name: str, roots: Sequence[Path], execution: ExecutionConfig) -> None:
    """Download checkpoint ``name`` under every root, once to every disk, where it is not whole there."""
    if not disks.is_first():
        return
    try:
        for root in roots:
            store, there = mirror.of(execution, root), root / name
            root.mkdir(parents=True, exist_ok=True)
            _tidy(root, name)
            if store and (checkpoint.damage(there) if not disks.is_shared() else not (there / checkpoint.COMPLETE).is_file()):
                store.pull(name, root)
    except Exception as error:
        raise _unreadable(error, execution) from error


def _tidy(root: Path, name: str) -> None:
    """Remove what downloads of other checkpoints left that were cut off."""
    for left in (*root.glob(f"{mirror.PARTIAL}*"), *root.glob("step_*.partial")):
        if left.name != f"{mirror.PARTIAL}{name}":
            shutil.rmtree(left, ignore_errors=True)


def _unreadable(error: Exception, execution: ExecutionConfig) -> CheckpointError:
    return CheckpointError(f"checkpoint_store {execution.checkpoint_store}: {type(error).__name__}: {complaint(error)}")
