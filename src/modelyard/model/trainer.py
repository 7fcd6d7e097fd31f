"""The loop every stage trains with: resume, step, report, checkpoint.

A batch is a pure function of the step, so a resumed run sees exactly the samples an uninterrupted one sees. A stage that does more between two
steps (PPO's rollouts) writes its own loop on the same :func:`resume` and :func:`keep`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from modelyard.config import ExecutionConfig
from modelyard.model import checkpoint
from modelyard.model.engine import Batch, Engine, LossFn
from modelyard.progress import Report

HISTORY = "history.jsonl"


class History:
    """Metrics of every logged step; saved inside checkpoints, so a resumed run's history has no gap and no repetition."""

    def __init__(self, lines: list[dict[str, float]] | None = None) -> None:
        self.lines = list(lines or [])

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one step."""
        self.lines.append({"step": step, **metrics})

    def write(self, directory: Path) -> None:
        """``history.jsonl``: one JSON object a line."""
        (directory / HISTORY).write_text("".join(json.dumps(line) + "\n" for line in self.lines))


def resume(engine: Engine, checkpoints: Path, *beside: Path) -> History:
    """Load the newest undamaged checkpoint under ``checkpoints`` into ``engine`` (none: leave it as it is) and return the history so far.

    Under every root of ``beside`` the checkpoint of the same step must be undamaged too.
    """
    newest = checkpoint.latest(checkpoints, *beside)
    if newest is None:
        return History()
    return History(engine.load(newest)["history"])


def keep(engine: Engine, checkpoints: Path, history: History) -> None:
    """Checkpoint the engine and its history; prune to the newest two."""
    engine.save(checkpoint.step_directory(checkpoints, engine.step), {"history": history.lines})
    checkpoint.prune(checkpoints, 2)


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
) -> History:
    """Train until ``steps`` optimizer steps are done, going on from the newest checkpoint; metrics are named ``stage/train/<name>``."""
    history = resume(engine, checkpoints)
    report(engine.step * units_per_step, steps * units_per_step, unit=unit)
    while engine.step < steps:
        metrics = engine.train_step(batches(engine.step), micro_batch, loss_fn)
        step = engine.step
        if step == 1 or step % execution.log_every == 0 or step == steps:
            named = {f"{stage}/train/{key}": value for key, value in metrics.items()}
            history.add(step, named)
            report(step * units_per_step, steps * units_per_step, named, unit=unit)
        if step % execution.checkpoint_every == 0 and step < steps:
            keep(engine, checkpoints, history)
    return history
