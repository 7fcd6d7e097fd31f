"""What it saves to drop sequences that have ended from a batch: CPU seconds of ``generate`` with and without, in turn.

``python -m bench.early_stop``. Random weights, prompts of 64 tokens, temperature 1; one token in ``--mean`` ends a sequence, so lengths are
geometric as those of replies roughly are. The tokens must be the same in both. One thread, process time: other programs matter little.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Annotated

import torch
import typer

from bench.generate import SHAPES, Shape
from bench.program import program
from bench.shapes import alternate, ratio
from modelyard.execution import ExecutionConfig
from modelyard.model.inference.generate import Generation, generate
from modelyard.model.network import processor
from modelyard.model.training.engine import Engine

PROMPT = 64


def main(
    shape: Annotated[Shape, typer.Option("--shape")] = Shape["small"],
    batch: int = 32,
    mean: int = 80,
    new_tokens: int = 192,
    rounds: int = 5,
) -> None:
    """Measure and print one table."""
    torch.set_num_threads(1)
    model, draw = SHAPES[shape], torch.Generator().manual_seed(0)
    engine = Engine(model, ExecutionConfig(threads=1), seed=0, precision="fp32")
    prompts = torch.randint(0, model.vocab_size, (batch, PROMPT), generator=draw).tolist()
    stops = torch.randperm(model.vocab_size, generator=draw)[: model.vocab_size // mean].tolist()

    def run(drop: bool) -> Generation:
        return generate(engine, prompts, max_new_tokens=new_tokens, temperature=1.0, seed=1, stop_ids=stops, drop_finished=drop)

    whole, dropped = run(drop=False), run(drop=True)
    if whole.tokens != dropped.tokens:
        raise RuntimeError("tokens differ")
    lengths = [len(row) for row in whole.tokens]
    print(processor.description(), flush=True)
    print(f"{shape}, {batch} prompts of {PROMPT} tokens, {min(lengths)} to {max(lengths)} new ones, mean {statistics.mean(lengths):.1f}")
    print(f"log-probabilities {'equal to the bit' if whole.logprobs == dropped.logprobs else 'equal to rounding'}")
    seconds = alternate({"whole": lambda: run(drop=False), "dropped": lambda: run(drop=True)}, rounds, clock=time.process_time)
    for name, times in seconds.items():
        print(f"  {name:8s} {statistics.median(times):.2f} s   {ratio(seconds, name, 'whole'):.2f}x", flush=True)


if __name__ == "__main__":
    sys.exit(program(main))
