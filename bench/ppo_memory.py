"""Host memory over many PPO iterations: the resident size must stay flat.

``make bench-ppo_memory``; ``python -m bench.ppo_memory --iterations 200``. The real loop (``ppo.train``:
sampling, update with pretraining text, average, checkpoints every 20 iterations) on a tiny Llama with random
weights. Printed: resident MiB after a warm-up of a quarter of the iterations, at the end, and the growth by a
straight line through what lies between, per 100 iterations.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from bench.policies import ppo_config, token_rows, training_of
from bench.posttrain_work import SHAPES
from bench.program import program
from modelyard.execution import ExecutionConfig
from modelyard.model.network import processor
from modelyard.posttrain.policy import loop as ppo


def resident(iterations: int, shape: str = "tiny") -> list[float]:
    """Resident MiB after every iteration, once what is free is handed back to the system: how much an allocator keeps is chance."""
    model = SHAPES[shape]
    execution = ExecutionConfig(threads=1, checkpoint_iterations=20)
    batches = {"episodes": 16, "minibatches": 2, "micro_batch": 8, "ptx_rows": 8, "ptx_coef": 0.5, "ema_decay": 0.9, "max_new_tokens": 24}
    config = ppo_config("fp32", iterations=iterations, **batches)
    training = training_of(config, model, execution, token_rows(model, [12] * 64, 0))
    process, seen = psutil.Process(), []
    hand_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's

    def report(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        if metrics:
            gc.collect()
            if hand_back is not None:
                hand_back(0)
            seen.append(process.memory_info().rss / 2**20)

    with tempfile.TemporaryDirectory() as scratch:
        ppo.train(config, training, Path(scratch), execution, report)
    return seen


def growth(seen: list[float]) -> float:
    """MiB per 100 iterations: slope of the line through the resident sizes after a quarter of them."""
    settled = seen[len(seen) // 4 :]
    return float(np.polyfit(np.arange(len(settled)), settled, 1)[0] * 100)


def main(
    iterations: int = 200,
    shape: Literal["small", "tiny"] = "tiny",
) -> None:
    """Run and print."""
    print(processor.description(), flush=True)
    seen = resident(iterations, shape)
    settled = seen[len(seen) // 4 :]
    print(f"{len(seen)} PPO iterations: {settled[0]:.1f} MiB after {len(seen) - len(settled)}, {seen[-1]:.1f} at the end")
    print(f"largest {max(settled):.1f}; growth {growth(seen):+.2f} MiB per 100 iterations")


if __name__ == "__main__":
    sys.exit(program(main))
