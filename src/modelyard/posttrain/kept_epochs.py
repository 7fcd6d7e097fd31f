"""The weights after every epoch of a fine-tuning, for a choice among them (InstructGPT, arXiv:2203.02155, section 3.5).

Beside the run's checkpoints on disk and, like these, in ``execution.checkpoint_store``: a run that goes on elsewhere has the epochs before. Left
out: pruning, since all of them are chosen among.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints import checkpoint, download, mirror
from modelyard.model.network import disks
from modelyard.model.training.engine import Engine

EPOCHS = "epochs"
"""Where they are, below the checkpoints and in the artifact."""


def named(epoch: int) -> str:
    """Directory of the weights after so many epochs, the last one begun counted."""
    return f"{epoch:03d}"


def keep(engine: Engine, epoch: int, checkpoints: Path, execution: ExecutionConfig) -> None:
    """Keep the engine's weights as those after ``epoch``, in the store too; every rank calls it. Raises ValueError as :func:`publish`, of those
    before it."""
    require(epoch - 1, checkpoints, execution)
    place = checkpoints / EPOCHS / named(epoch)
    store = mirror.of(execution, place.parent)
    engine.save_weights(place, store.copying(place) if store else ())


def resume(epochs: int, checkpoints: Path, execution: ExecutionConfig) -> None:
    """Bring what the store has of the ``epochs`` of a run and this disk has not; every rank calls it, before training goes on."""
    download.bring([named(epoch) for epoch in range(1, epochs + 1)], checkpoints / EPOCHS, execution)


def require(epochs: int, checkpoints: Path, execution: ExecutionConfig) -> None:
    """Raise ValueError on every rank where the weights after one of the first ``epochs`` are not whole."""
    root = checkpoints / EPOCHS
    box = [[name for name in map(named, range(1, epochs + 1)) if not (root / name / checkpoint.COMPLETE).is_file()]]
    dist.broadcast_object_list(box, 0)
    if box[0]:
        places = f"{checkpoints} and what {execution.checkpoint_store} has of it" if execution.checkpoint_store else str(checkpoints)
        raise ValueError(f"sft.keep_epochs: the weights after epoch {', '.join(box[0])} are not there; remove {places} to train anew")


def publish(epochs: int, checkpoints: Path, out: Path, execution: ExecutionConfig) -> None:
    """Copy the weights after each of ``epochs`` to ``out``, once on every disk; every rank calls it.

    Raises:
        ValueError: one of them is not whole: a choice among the others would be another choice.
    """
    require(epochs, checkpoints, execution)
    if disks.is_first():
        for epoch in range(1, epochs + 1):
            shutil.copytree(checkpoints / EPOCHS / named(epoch), out / EPOCHS / named(epoch))
    dist.barrier()
