"""What grouped products save beside a loop over the experts: forward and backward of one layer's experts, in one process, in turn.

``python -m bench.experts``; ``--shape small --precision fp32`` is a part of it. The peer is megatron-core's ``SequentialMLP`` with our
linear layers, the same weights and tokens. Tokens choose their experts at random, unevenly. Printed: median milliseconds of a pass and
the median ratio of a round; with ``--cpu`` they are the process's own, for a machine that others use.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import torch
import typer

from bench.program import program
from bench.shapes import PrecisionName, alternate, llama, ratio
from modelyard.execution import ExecutionConfig
from modelyard.model.network import architecture, parallel, processor
from modelyard.model.network.experts import MoEConfig
from modelyard.model.network.model_config import Precision

Shape = StrEnum("Shape", ["decoding", "small", "fine", "many"])
SHAPES = {
    "decoding": (8, 2, 256, 512, 32),
    "small": (8, 2, 256, 512, 2048),
    "fine": (64, 8, 256, 128, 512),
    "many": (128, 8, 512, 192, 512),
}
"""Experts, of which a token meets so many; hidden, width of an expert; tokens."""


def layers(shape: Shape, precision: Precision) -> dict[str, Any]:
    """The experts of a layer in both forms, with the same weights."""
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.core.transformer.mlp import MLPSubmodules
    from megatron.core.transformer.moe.experts import SequentialMLP

    from modelyard.model.network.grouped_experts import GroupedExperts
    from modelyard.model.network.language_model import ColumnParallel, RowParallel

    experts, top_k, hidden, inner, _ = SHAPES[shape]
    moe = MoEConfig(experts=experts, top_k=top_k, aux_loss=0.0)
    model = llama(1, hidden, 4, 4, inner, 512, 64).model_copy(update={"moe": moe})
    config = architecture.transformer_config(model, ExecutionConfig(), precision)
    groups = ProcessGroupCollection.use_mpu_process_groups()
    grouped = GroupedExperts(experts, config, groups)
    loop = SequentialMLP(experts, config, MLPSubmodules(linear_fc1=ColumnParallel, linear_fc2=RowParallel), groups)
    with torch.no_grad():
        for name in ("linear_fc1", "linear_fc2"):
            for number, expert in enumerate(loop.local_experts):
                getattr(grouped, name).weight[number] = getattr(expert, name).weight
    return {"grouped": grouped, "loop": loop}


def passes(layer: Any, shape: Shape, precision: Precision) -> Callable[[], None]:
    """A forward and a backward pass over the same tokens every time."""
    experts, top_k, hidden, _, tokens = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    likely = torch.rand(experts, generator=generator).expand(tokens, -1)
    counts = torch.multinomial(likely, top_k, generator=generator).flatten().bincount(minlength=experts)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rows, slopes = (torch.randn(tokens * top_k, hidden, generator=generator).to(dtype) for _ in range(2))
    gates = torch.rand(tokens * top_k, generator=generator)
    rows.requires_grad_()

    def once() -> None:
        layer.zero_grad()
        layer(rows, counts, gates)[0].backward(slopes)

    return once


def main(
    shapes: Annotated[list[Shape], typer.Option("--shape")] = [*Shape],
    precisions: Annotated[list[PrecisionName], typer.Option("--precision")] = [*PrecisionName],
    rounds: int = 9,
    threads: int = 1,
    cpu: Annotated[bool, typer.Option("--cpu", help="CPU seconds of the process instead of the clock's.")] = False,
) -> None:
    """Measure and print a line a shape and precision."""
    print(processor.description(), flush=True)
    parallel.initialize(ExecutionConfig(threads=threads))
    for shape in shapes:
        experts, top_k, hidden, inner, tokens = SHAPES[shape]
        print(f"{shape}: {experts} experts of {hidden} x {inner}, {tokens} tokens to {top_k} each, {threads} threads", flush=True)
        for precision in precisions:
            work = {name: passes(layer, shape, precision.value) for name, layer in layers(shape, precision.value).items()}
            for once in work.values():
                once()
            seconds = alternate(work, rounds, clock=time.process_time if cpu else time.perf_counter)
            took = ", ".join(f"{name} {statistics.median(times) * 1e3:.1f} ms" for name, times in seconds.items())
            print(f"  {precision}  {took}: {ratio(seconds, 'grouped', 'loop'):.2f} times as fast", flush=True)


if __name__ == "__main__":
    sys.exit(program(main))
