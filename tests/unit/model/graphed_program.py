"""Runs on both ranks of a tensor-parallel world: the decoding step as a graph beside the plain one; rank 0 prints JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.model.inference.decode import Decoder, Weights
from modelyard.model.inference.generate import Generation, generate
from modelyard.model.inference.graphed_step import GraphedStep
from modelyard.model.network import onednn, parallel
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.training.engine import Engine
from tests.unit.model import layout_program as program
from tests.unit.model.decoded_models import MODELS
from tests.unit.model.pretended_cuda import pretended

TWO = ExecutionConfig(threads=1, tensor_parallel=2)


def engine(shape: ModelConfig) -> Engine:
    return Engine(shape, TWO, seed=3, precision="fp32")


def largest_difference(made: Engine, begins: list[int] | None, *, compiles: bool) -> float:
    """Of the logits of three steps after a prompt of five tokens, between the plain step and the graph's function, which torch's compiler
    has seen whole with ``compiles``."""
    first = None if begins is None else torch.tensor(begins)
    made.mode(training=False)
    made.split_sequences(False)
    torch.compiler.reset()  # a process compiles one function for at most eight kinds of layers
    with torch.no_grad():
        weights = Weights(made, 3)
        plain, other = (Decoder(made, weights, 3, 12, begins=first) for _ in range(2))
        tokens = torch.randint(0, made.model.vocab_size, (3, 8), generator=torch.Generator().manual_seed(5))
        for decoder in (plain, other):
            decoder.logits(tokens[:, :5], 0)
        step = GraphedStep(made, weights.blocks, weights.output, other.rotation, [(c.keys, c.values) for c in other.caches], first)
        if compiles:
            step.layer = torch.compile(step.layer, fullgraph=True, backend="eager")
        differences = []
        for position in range(5, 8):
            step.tokens.copy_(tokens[:, position])
            step.position.fill_(position)
            differences.append((step._step(12) - plain.logits(tokens[:, position : position + 1], position)).abs().max())
    return float(torch.stack(differences).max())


def drawn(shape: ModelConfig) -> Generation:
    return generate(engine(shape), program.PROMPTS, max_new_tokens=12, temperature=1.0, seed=3)


def measure(shape: ModelConfig) -> dict[str, Any]:
    """Differences of logits; texts drawn on the CPU's way and as on a GPU, and how many graphs were replayed there."""
    made = engine(shape)
    differences = [largest_difference(made, begins, compiles=begins is None) for begins in (None, [2, 0, 4])]
    here = drawn(shape)
    with pytest.MonkeyPatch.context() as patch, pretended(patch, TWO) as gpu, gpu.counts():
        there = drawn(shape)
    return {"differences": differences, "here": here._asdict(), "there": there._asdict(), "graphs": gpu.launched["graph"]}


def main() -> None:
    onednn.FP32 = False  # a GPU's weights are not packed
    dist.init_process_group("gloo")
    found = {name: measure(shape) for name, shape in MODELS.items()}
    if dist.get_rank() == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
    parallel.leave()
