"""The weights after every epoch of a fine-tuning, for a choice among them (InstructGPT, arXiv:2203.02155, section 3.5).

Beside the run's checkpoints on disk and, like these, in ``execution.checkpoint_store``: a run that goes on elsewhere has the epochs before. Left
out: pruning, since all of them are chosen among.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.checkpoints import checkpoint, download, mirror
from modelyard.model.network import disks
from modelyard.model.training import adapter_file
from modelyard.model.training.engine import Engine

EPOCHS = "epochs"
"""Where they are, below the checkpoints and in the artifact."""


def named(epoch: int) -> str:
    """Directory of the weights after so many epochs, the last one begun counted."""
    return f"{epoch:03d}"


def keep(engine: Engine, base: Path, epoch: int, checkpoints: Path, execution: ExecutionConfig) -> None:
    """Keep the engine's weights as those after ``epoch``, in the store too, and its adapters on ``base``, where it has any, beside them; every rank
    calls it. Raises ValueError as :func:`publish`, of those before it."""
    require(engine, epoch - 1, checkpoints, execution)
    place = checkpoints / EPOCHS / named(epoch)
    store, then = mirror.of(execution, place.parent), list[Callable[[], None]]()
    if engine.lora:
        made = place.with_name(f"adapter.{place.name}")
        adapter_file.write(engine, model_directory.called(base), made)
        then.append(partial(put, made, place))
    engine.save_weights(place, [*then, *(store.copying(place) if store else ())])


def put(adapter: Path, place: Path) -> None:
    """Move the files of an adapter beside the weights that it was merged into. Rank 0 does it."""
    if dist.get_rank() == 0:
        for name in adapter_file.FILES:
            (adapter / name).replace(place / name)
        adapter.rmdir()


def copy_adapter(epoch: Path, out: Path) -> None:
    """Copy the adapter of an epoch, where it has one, to the model at ``out``. Rank 0 does it."""
    if dist.get_rank() == 0 and (epoch / adapter_file.CONFIG).is_file():
        (out / model_directory.ADAPTER).mkdir()
        for name in adapter_file.FILES:
            shutil.copyfile(epoch / name, out / model_directory.ADAPTER / name)


def resume(epochs: int, checkpoints: Path, execution: ExecutionConfig) -> None:
    """Bring what the store has of the ``epochs`` of a run and this disk has not; every rank calls it, before training goes on."""
    download.bring([named(epoch) for epoch in range(1, epochs + 1)], checkpoints / EPOCHS, execution)


def require(engine: Engine, epochs: int, checkpoints: Path, execution: ExecutionConfig) -> None:
    """Raise ValueError on every rank where the weights, or the adapters, after one of the first ``epochs`` are not whole."""
    root = checkpoints / EPOCHS
    files = (checkpoint.COMPLETE, *(adapter_file.FILES if engine.lora else ()))
    box = [[name for name in map(named, range(1, epochs + 1)) if not all((root / name / file).is_file() for file in files)]]
    dist.broadcast_object_list(box, 0)
    if box[0]:
        places = f"{checkpoints} and what {execution.checkpoint_store} has of it" if execution.checkpoint_store else str(checkpoints)
        raise ValueError(f"sft.keep_epochs: the weights after epoch {', '.join(box[0])} are not there; remove {places} to train anew")


def publish(engine: Engine, epochs: int, checkpoints: Path, out: Path, execution: ExecutionConfig) -> None:
    """Copy the weights after each of ``epochs`` to ``out``, once on every disk; every rank calls it.

    Raises:
        ValueError: one of them is not whole: a choice among the others would be another choice.
    """
    require(engine, epochs, checkpoints, execution)
    if disks.is_first():
        for epoch in range(1, epochs + 1):
            shutil.copytree(checkpoints / EPOCHS / named(epoch), out / EPOCHS / named(epoch))
    dist.barrier()
