"""Training speed beside Hugging Face's Llama: forward, backward, clipping and AdamW step, in one process, in turn.

``python -m bench.train``; ``--shape small --precision fp32`` is a part of it. The peer is transformers'
``LlamaForCausalLM`` with SDPA, fused AdamW, bf16 by autocast; both run eager and compiled by
``torch.compile`` (ours by ``execution.compile``) and see the same tokens. Printed: seconds of the first step,
median and best tokens/s, and for each form of ours the median ratio of a round.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import torch
import typer

from bench.program import program
from bench.shapes import SMALL, SMOLLM2, PrecisionName, alternate, peer, ratio
from modelyard.execution import ExecutionConfig
from modelyard.model.network import processor
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.token_data import language_model_loss

Shape = StrEnum("Shape", ["small", "smollm2"])
Form = StrEnum("Form", ["eager", "compiled"])
SHAPES = {"small": (SMALL, 16), "smollm2": (SMOLLM2, 2)}
OPTIMIZER = OptimizerConfig(
    lr=1e-4, min_lr_ratio=1.0, warmup_steps=0, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8, clip_grad=1.0, schedule="constant"
)


def ours(model: ModelConfig, precision: Precision, threads: int, compiled: bool) -> Callable[[Batch], object]:
    """One step of our engine."""
    execution = ExecutionConfig(threads=threads, compile=compiled)
    engine = Engine(model, execution, seed=0, precision=precision, optim=OPTIMIZER, total_steps=1000)
    return lambda batch: engine.train_step(batch, batch.tokens.shape[0], language_model_loss)


def theirs(model: ModelConfig, precision: Precision, compiled: bool, device: str = "cpu") -> Callable[[Batch], None]:
    """One step of transformers' Llama."""
    module = peer(model).to(device).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=OPTIMIZER.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward: Any = torch.compile(module) if compiled else module

    def step(batch: Batch) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = forward(input_ids=batch.tokens, labels=batch.labels, shift_labels=batch.labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), OPTIMIZER.clip_grad)
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())

    return step


def both(
    model: ModelConfig, precision: Precision, forms: list[str], threads: int, device: str = "cpu"
) -> dict[str, Callable[[Batch], object]]:
    """A step of ours and one of the peer in each form (eager, compiled), by name."""
    steps: dict[str, Callable[[Batch], object]] = {}
    for form in forms:
        steps[f"modelyard {form}"] = ours(model, precision, threads, form == "compiled")
        steps[f"transformers {form}"] = theirs(model, precision, form == "compiled", device)
    return steps


def measure(shape: str, precision: Precision, forms: list[str], rounds: int, count: int, threads: int) -> None:
    """One shape at one precision: a line for each form of ours and of the peer."""
    model, size = SHAPES[shape]
    rows = torch.randint(0, model.vocab_size, (size, model.seq_len + 1), generator=torch.Generator().manual_seed(0))
    batch = Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), {})
    steps = both(model, precision, forms, threads)
    for name, step in steps.items():
        started = time.perf_counter()
        step(batch)
        print(f"  {precision}  {name:22s} first step {time.perf_counter() - started:.1f} s", flush=True)
        step(batch)
    seconds = alternate({name: functools.partial(step, batch) for name, step in steps.items()}, rounds, count)
    for name, times in seconds.items():
        rate, best = (size * model.seq_len * count / value for value in (statistics.median(times), min(times)))
        print(f"  {precision}  {name:22s} {rate:9,.0f} tokens/s (best {best:7,.0f})   {against(seconds, name, forms)}", flush=True)


def against(seconds: dict[str, list[float]], name: str, forms: list[str]) -> str:
    """How many times faster each form of ours was than ``name``."""
    return "ours is " + ", ".join(f"{form} {ratio(seconds, f'modelyard {form}', name):.2f}x" for form in forms)


def main(
    shapes: Annotated[list[Shape], typer.Option("--shape")] = [*Shape],
    precisions: Annotated[list[PrecisionName], typer.Option("--precision")] = [*PrecisionName],
    forms: list[Form] = [*Form],
    rounds: int = 9,
    steps: Annotated[int, typer.Option(help="Optimizer steps a round.")] = 1,
    threads: int = 2,
) -> None:
    """Measure and print one table a shape."""
    print(processor.description(), flush=True)
    torch.set_num_threads(threads)
    for shape in shapes:
        model, size = SHAPES[shape]
        print(f"{shape}: {model.parameters() / 1e6:.2f}M parameters, batch {size} x {model.seq_len}, {threads} threads", flush=True)
        for precision in precisions:
            measure(shape, precision.value, [*map(str, forms)], rounds, steps, threads)


if __name__ == "__main__":
    sys.exit(program(main))
