"""Runs on every rank: each model directory at each named layout (``2x1``: TP x PP) continues prompts greedily and scores rows; rank 0 prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.inference.generate import generate
from modelyard.model.network import parallel
from modelyard.model.training.batch import Batch

NEW_TOKENS = 24
WIDEST = 128
"""Tokens whose log-probabilities are compared: all of the small models'."""


def measure(directory: Path, execution: ExecutionConfig, prompts: list[list[int]], rows: torch.Tensor) -> dict[str, Any]:
    """Greedy continuations, log-probabilities of ``rows`` [B, S + 1], those of each of :data:`WIDEST` tokens at every eighth position of the first
    row, and without pipeline stages the logits there."""
    engine = model_directory.load(directory, execution)
    tokens = generate(engine, prompts, max_new_tokens=NEW_TOKENS, temperature=0.0, seed=0).tokens
    scores = engine.evaluate(Batch(rows[:, :-1], rows[:, 1:], {}), len(rows))
    logits = None
    if execution.pipeline_parallel == 1:
        positions = torch.arange(rows.shape[1] - 1).expand(len(rows), -1)
        with torch.no_grad():
            logits = engine.chunks[0](rows[:, :-1], positions, None, runtime_gather_output=True)[:, ::8, : engine.model.vocab_size].tolist()
    first, labels = rows[:1, :-1], torch.arange(min(WIDEST, engine.model.vocab_size))
    whole = engine.evaluate(Batch(first.expand(len(labels), -1), labels[:, None].expand(-1, first.shape[1]), {}), len(labels))
    return {"tokens": tokens, "scores": scores.tolist(), "logits": logits, "distribution": whole.T[::8].tolist()}


def main(inputs: Path, layouts: list[str]) -> None:
    from megatron.core import parallel_state

    given = json.loads(inputs.read_text())
    results: dict[str, dict[str, Any]] = {directory: {} for directory in given["directories"]}
    dist.init_process_group("gloo")
    for layout in layouts:
        tp, pp = (int(size) for size in layout.split("x"))
        execution = ExecutionConfig(threads=1, tensor_parallel=tp, pipeline_parallel=pp)
        for directory, answers in results.items():
            answers[layout] = measure(Path(directory), execution, given["prompts"], torch.tensor(given["rows"]))
        parallel_state.destroy_model_parallel()
    if dist.get_rank() == 0:
        print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    parallel.leave()
