"""Training speed beside Hugging Face's Llama: forward, backward, clipping and AdamW step, in one process, in turn.

``python -m benchmarks.train``; ``--shape small --precision fp32`` is a part of it. Peers: transformers' ``LlamaForCausalLM`` with SDPA, eager and
compiled by ``torch.compile``, fused AdamW, bf16 by autocast. Both see the same tokens. Printed: median and best tokens/s, and the median ratio of a
round.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.shapes import SMALL, SMOLLM2, alternate, peer, ratio
from modelyard.config import ExecutionConfig
from modelyard.model.architecture import ModelConfig, Precision
from modelyard.model.engine import Batch, Engine
from modelyard.model.optimizer import OptimizerConfig
from modelyard.model.token_data import language_model_loss

SHAPES = {"small": (SMALL, 16), "smollm2": (SMOLLM2, 2)}
OPTIMIZER = OptimizerConfig(
    lr=1e-4, min_lr_ratio=1.0, warmup_steps=0, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8, clip_grad=1.0, schedule="constant"
)


def ours(model: ModelConfig, precision: Precision, threads: int) -> Callable[[Batch], object]:
    """One step of our engine."""
    engine = Engine(model, ExecutionConfig(threads=threads), seed=0, precision=precision, optim=OPTIMIZER, total_steps=1000)
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


def measure(shape: str, precision: Precision, peers: list[str], rounds: int, count: int, threads: int) -> None:
    """One shape at one precision: a line for ours and for each peer."""
    model, size = SHAPES[shape]
    rows = torch.randint(0, model.vocab_size, (size, model.seq_len + 1), generator=torch.Generator().manual_seed(0))
    batch = Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), {})
    steps: dict[str, Callable[[Batch], object]] = {"modelyard": ours(model, precision, threads)}
    for name in peers:
        steps[f"transformers {name}"] = theirs(model, precision, name == "compiled")
    for step in steps.values():
        step(batch)
        step(batch)
    seconds = alternate({name: (lambda step=step: [step(batch) for _ in range(count)]) for name, step in steps.items()}, rounds)
    for name, times in seconds.items():
        rate, best = (size * model.seq_len * count / value for value in (statistics.median(times), min(times)))
        quotient = ratio(seconds, "modelyard", name)
        print(f"  {precision}  {name:22s} {rate:9,.0f} tokens/s (best {best:7,.0f})   ours is {quotient:.2f}x", flush=True)


def main() -> None:
    """Measure and print one table a shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, nargs="+", default=list(SHAPES))
    parser.add_argument("--precision", choices=("fp32", "bf16"), nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--peers", choices=("eager", "compiled"), nargs="*", default=["eager", "compiled"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=1, help="optimizer steps a round")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for shape in arguments.shape:
        model, size = SHAPES[shape]
        print(
            f"{shape}: {model.parameters() / 1e6:.2f}M parameters, batch {size} x {model.seq_len}, {arguments.threads} threads", flush=True
        )
        for precision in arguments.precision:
            measure(shape, precision, arguments.peers, arguments.rounds, arguments.steps, arguments.threads)


if __name__ == "__main__":
    main()
