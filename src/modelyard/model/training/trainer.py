"""The loop every stage trains with: resume, step, report, checkpoint, stop when asked.

A batch is a pure function of the step, so a resumed run sees exactly the samples an uninterrupted one sees. A stage that does more between two
steps (PPO's rollouts) writes its own loop on the same :func:`resume`, :func:`keep` and :func:`stop_agreed`.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from modelyard import progress
from modelyard.execution import ExecutionConfig
from modelyard.log import logger
from modelyard.model.checkpoints import checkpoint, download, host_copy, mirror
from modelyard.model.checkpoints.writer import CheckpointError, DiskFullError
from modelyard.model.network import devices, parallel
from modelyard.model.training import spikes
from modelyard.model.training.batch import Batch, LossFn
from modelyard.model.training.engine import Engine
from modelyard.model.training.spikes import Recent, SpikeConfig
from modelyard.progress import PreemptedError, Report, Stop

HISTORY = "history.jsonl"

_log = logger(__name__)


class History:
    """Metrics of every logged step; saved inside checkpoints, so a resumed run's history has no gap and no repetition."""

    def __init__(self, lines: list[dict[str, float]] | None = None, recent: Recent | None = None) -> None:
        self.lines = list(lines or [])
        self.recent = recent or Recent()

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one step."""
        self.lines.append({"step": step, **metrics})

    def note(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"history": list(self.lines), "recent": asdict(self.recent)}  # a copy: it is written while training goes on

    def write(self, directory: Path) -> None:
        """``history.jsonl``: one JSON object a line."""
        (directory / HISTORY).write_text("".join(json.dumps(line) + "\n" for line in self.lines))


def resume(engine: Engine, checkpoints: Path, execution: ExecutionConfig, *beside: Path) -> History:
    """Load the newest undamaged checkpoint under ``checkpoints`` into ``engine`` (none: leave it as it is) and return the history so far.

    A newer one in ``execution.checkpoint_store`` is fetched first. Under every root of ``beside`` the checkpoint of the same step must be
    undamaged too.
    """
    with contextlib.suppress(CheckpointError, DiskFullError):
        checkpoint.wait()  # of a run in this process that was given up
    newest = download.newest((checkpoints, *beside), execution)
    if newest is None:
        return History()
    note = engine.load(newest)
    return History(note["history"], Recent(**note["recent"]))


class Kept(NamedTuple):
    """A model to checkpoint, where its checkpoints are, and the history that goes into this one."""

    engine: Engine
    checkpoints: Path
    history: History


def keep(models: Sequence[Kept], step: int, execution: ExecutionConfig) -> None:
    """Checkpoint models as of ``step``, in their order and beside the training that follows; copy them to the store; prune older ones.

    Raises:
        DiskFullError, CheckpointError: the save before this one failed.
    """
    places = [checkpoint.step_directory(kept.checkpoints, step) for kept in models]
    saves = [kept.engine.to_save(place, kept.history.note()) for kept, place in zip(models, places, strict=True)]
    checkpoint.save_beside(saves, _when_whole(places, execution))


def _when_whole(places: Sequence[Path], execution: ExecutionConfig) -> list[list[Callable[[], None]]]:
    """What to do when the checkpoints of a step at ``places`` are whole on this machine, none of which is pruned before: older ones go, whatever
    becomes of the copies in the store, and copies are made, whatever could not be pruned here."""
    stay = (execution.keep_last, execution.keep_every)
    stores = [(place, store) for place in places if (store := mirror.of(execution, place.parent)) is not None]
    copy = [part for place, store in stores for part in store.copying(place)]
    return [
        [functools.partial(checkpoint.prune, place.parent, *stay) for place in places],
        [*copy, *(functools.partial(store.prune, *stay) for _, store in stores)],
    ]


@contextlib.contextmanager
def checkpoints_written() -> Iterator[None]:
    """A loop that writes checkpoints and stops by itself when asked to. The one that is being written is waited for before
    leaving the block; its failure is raised unless the block failed already."""
    try:
        with progress.stops_itself():
            yield
    except BaseException:
        with contextlib.suppress(CheckpointError, DiskFullError):
            checkpoint.wait()
        raise
    else:
        checkpoint.wait()
    finally:
        host_copy.release()


def stop_agreed(engine: Engine) -> PreemptedError | None:
    """What to raise after a checkpoint when some rank was asked to stop, the same on every rank; every rank calls it between the same steps."""
    asked, ranks = progress.stop_requested(), dist.get_world_size()
    order = asked * ranks + engine.layout.rank if asked else 0
    if ranks > 1:
        agreed = torch.tensor([order], device=parallel.device())
        dist.all_reduce(agreed, dist.ReduceOp.MAX)
        (order,) = devices.on_host(agreed)
    if not order:
        return None
    progress.request_stop(Stop.NOBODY)
    by, rank = divmod(order, ranks)
    line = f"stopped by SIGTERM after step {engine.step}; its checkpoint is written, run again to go on"
    return PreemptedError(line, rank if by == Stop.SIGNALLED else None)


def train(
    engine: Engine,
    batches: Callable[[int], Batch],
    *,
    steps: int,
    micro_batch: int,
    loss_fn: LossFn,
    stage: str,
    checkpoints: Path,
    execution: ExecutionConfig,
    report: Report,
    unit: str = "step",
    units_per_step: int = 1,
    spike: SpikeConfig | None = None,
    after_step: Callable[[int], None] = lambda step: None,
) -> History:
    """Train until ``steps`` optimizer steps are done, going on from the newest checkpoint; metrics are named ``stage/train/<name>``.

    Every rank calls ``after_step`` with the number of steps done, before that step's checkpoint.

    Raises:
        NotFiniteError: a loss or gradient is not finite. A restart from the last checkpoint tells a faulty machine from a faulty run.
        StopError: too many loss spikes in a row, no room for a checkpoint, or (PreemptedError) asked to stop.
        CheckpointError: a checkpoint could not be written for another reason.
    """
    history = resume(engine, checkpoints, execution)
    report(engine.step * units_per_step, steps * units_per_step, unit=unit)
    with checkpoints_written():
        while engine.step < steps:
            bound = spikes.limit(spike, history.recent)
            metrics = engine.train_step(batches(engine.step), micro_batch, loss_fn, bound)
            step = engine.step
            skipped = spikes.note(spike, history.recent, step, metrics["loss"])
            if skipped and engine.layout.rank == 0:
                _log.warning("%s: loss %.4g at step %d is a spike (limit %.4g): the step is not taken", stage, metrics["loss"], step, bound)
            if step == 1 or step % execution.log_every == 0 or step == steps or skipped:
                named = {f"{stage}/train/{key}": value for key, value in metrics.items()}
                history.add(step, named)
                report(step * units_per_step, steps * units_per_step, named, unit=unit)
            after_step(step)
            if step == steps:
                break
            preempted = stop_agreed(engine)
            if preempted or step % execution.checkpoint_every == 0:
                keep([Kept(engine, checkpoints, history)], step, execution)
            if preempted:
                checkpoint.wait()
                raise preempted
    return history
