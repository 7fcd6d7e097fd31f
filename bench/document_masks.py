"""What it costs to keep the documents of packed rows apart: training steps with the masks beside the same steps without.

``python -m bench.document_masks``; ``--shape small --precision fp32`` is a part of it. Both read the same token files through the batches
that pretraining reads, documents of random lengths (geometric, ``--mean`` tokens), so the making of a batch is inside the clock. Printed:
median and least seconds a step, and the median ratio of a round; with ``--cpu`` seconds are the process's own, for a machine that others use.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from bench.program import program
from bench.shapes import SMALL, TINY, PrecisionName, alternate, ratio
from bench.train import OPTIMIZER
from modelyard.execution import ExecutionConfig
from modelyard.formats.token_rows import DocumentMasks, TokenRows, write_documents
from modelyard.model.network import processor
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import TokenBatches, language_model_loss

Shape = StrEnum("Shape", ["tiny", "small", "long"])
SHAPES = {"tiny": (TINY, 8), "small": (SMALL, 16), "long": (SMALL.model_copy(update={"seq_len": 1024}), 4)}
"""Model and sequences of a step; ``long`` is ``small`` on rows four times as long."""
ROWS = 256
MASKS: dict[str, DocumentMasks | None] = {"rows are one text": None, "documents apart": "at_end"}


def batches(directory: Path, model: ModelConfig, size: int, mean: int, masks: DocumentMasks | None) -> TokenBatches:
    """Batches of the same documents with or without masks."""
    draw = np.random.default_rng(0)
    lengths = draw.geometric(1 / mean, 2 * ROWS * (model.seq_len + 1) // mean)
    texts = [np.append(draw.integers(1, model.vocab_size, length - 1), 0) for length in lengths]
    directory.mkdir()
    write_documents(directory, {"train": texts}, model.seq_len, model.vocab_size, 0, masks)
    return TokenBatches(TokenRows(directory, "train"), size, seed=0)


def measure(
    root: Path, shape: str, precision: Precision, mean: int, rounds: int, count: int, threads: int, clock: Callable[[], float]
) -> None:
    """One shape at one precision."""
    model, size = SHAPES[shape]
    steps = {}
    for name, masks in MASKS.items():
        rows = batches(root / f"{shape} {precision} {name}", model, size, mean, masks)
        engine = Engine(model, ExecutionConfig(threads=threads), seed=0, precision=precision, optim=OPTIMIZER, total_steps=1000)
        steps[name] = lambda engine=engine, rows=rows: engine.train_step(rows(engine.step), size, language_model_loss)
        steps[name]()
    seconds = alternate(steps, rounds, count, clock)
    for name, times in seconds.items():
        each = [value / count for value in times]
        print(f"  {precision}  {name:18s} {statistics.median(each):7.3f} s a step (least {min(each):.3f})", flush=True)
    print(f"  {precision}  with masks a step takes {ratio(seconds, 'rows are one text', 'documents apart'):.2f} times as long", flush=True)


def main(
    shapes: Annotated[list[Shape], typer.Option("--shape")] = [*Shape],
    precisions: Annotated[list[PrecisionName], typer.Option("--precision")] = [*PrecisionName],
    mean: Annotated[int, typer.Option(help="Tokens of a document.")] = 60,
    rounds: int = 9,
    steps: Annotated[int, typer.Option(help="Optimizer steps a round.")] = 1,
    threads: int = 2,
    cpu: Annotated[bool, typer.Option("--cpu", help="CPU seconds of the process instead of the clock's.")] = False,
) -> None:
    """Measure and print one table a shape."""
    print(processor.description(), flush=True)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as directory:
        for shape in shapes:
            model, size = SHAPES[shape]
            print(f"{shape}: {model.parameters() / 1e6:.2f}M parameters, batch {size} x {model.seq_len}, {threads} threads", flush=True)
            for precision in precisions:
                clock = time.process_time if cpu else time.perf_counter
                measure(Path(directory), shape, precision.value, mean, rounds, steps, threads, clock)


if __name__ == "__main__":
    sys.exit(program(main))
