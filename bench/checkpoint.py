"""What a checkpoint costs training: written beside it, and written while it waits, in one process, in turn.

``python -m bench.checkpoint``. A round trains ``--steps`` steps and saves in the middle of them; printed are
medians over the rounds of how long the loop was held by the save and of the whole round, beside a round that
does not save. Beside training the last checkpoint of a round is waited for outside the round, as a run with
more steps to go would not wait for it.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from bench.program import program
from bench.shapes import SMALL
from bench.train import OPTIMIZER
from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints import checkpoint
from modelyard.model.network import processor
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import language_model_loss

MODES = ("none", "waiting", "beside")


def round_of(engine: Engine, batch: Batch, mode: str, steps: int, root: Path) -> tuple[float, float]:
    """Seconds the loop was held by its save, and seconds of the round."""
    started, held = time.perf_counter(), 0.0
    for step in range(steps):
        if step == steps // 2 and mode != "none":
            before = time.perf_counter()
            engine.save(checkpoint.step_directory(root, engine.step), then=() if mode == "beside" else None)
            held = time.perf_counter() - before
        engine.train_step(batch, batch.tokens.shape[0], language_model_loss)
    seconds = time.perf_counter() - started
    checkpoint.wait()
    shutil.rmtree(root)
    root.mkdir()
    return held, seconds


def main(
    rounds: int = 5,
    steps: int = 6,
    batch_rows: Annotated[int, typer.Option("--rows")] = 8,
    threads: int = 2,
) -> None:
    """The command."""
    print(processor.description(), flush=True)
    engine = Engine(SMALL, ExecutionConfig(threads=threads), seed=0, precision="fp32", optim=OPTIMIZER, total_steps=1000)
    rows = torch.randint(0, SMALL.vocab_size, (batch_rows, SMALL.seq_len + 1), generator=torch.Generator().manual_seed(0))
    batch = Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), {})
    found: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "checkpoints"
        root.mkdir()
        for mode in MODES:
            round_of(engine, batch, mode, steps, root)
        for _ in range(rounds):
            for mode in MODES:
                found[mode].append(round_of(engine, batch, mode, steps, root))
    print(f"{SMALL.parameters():,} parameters, {steps} steps of {batch_rows} x {SMALL.seq_len}, median of {rounds} rounds")
    for mode in MODES:
        held, seconds = (statistics.median(values) for values in zip(*found[mode], strict=True))
        print(f"{mode:8} held {held * 1000:7.1f} ms   round {seconds:6.3f} s")


if __name__ == "__main__":
    sys.exit(program(main))
