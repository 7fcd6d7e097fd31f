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
    """Keep the engine's weights as those after ``epoch``, in the store too; every rank calls it."""
    place = checkpoints / EPOCHS / named(epoch)
    store = mirror.of(execution, place.parent)
    engine.save_weights(place, store.copying(place) if store else ())


def resume(epochs: int, checkpoints: Path, execution: ExecutionConfig) -> None:
    """Bring what the store has of the ``epochs`` of a run and this disk has not; every rank calls it, before training goes on."""
    download.bring([named(epoch) for epoch in range(1, epochs + 1)], checkpoints / EPOCHS, execution)


def publish(epochs: int, checkpoints: Path, out: Path) -> None:
    """Copy the weights after each of ``epochs`` to ``out``, once on every disk; every rank calls it.

    Raises:
        ValueError: one of them is not whole: a choice among the others would be another choice.
    """
    root, names = checkpoints / EPOCHS, [named(epoch) for epoch in range(1, epochs + 1)]
    box = [[name for name in names if not (root / name / checkpoint.COMPLETE).is_file()]]
    dist.broadcast_object_list(box, 0)
    if box[0]:
        raise ValueError(
            f"sft.keep_epochs: of {epochs} epochs the weights after {', '.join(box[0])} are not there; remove {checkpoints} to train anew"
        )
    if disks.is_first():
        for name in names:
            shutil.copytree(root / name, out / EPOCHS / name)
    dist.barrier()
