"""Generation speed beside transformers' ``generate``: new tokens/s at batch 16, the same weights, greedy, in one process, in turn.

``python -m bench.generate``. In fp32 both must produce the same tokens before anything is timed. Ours also returns log-probabilities.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from bench.program import program
from bench.shapes import SMALL, SMOLLM2, TINY, PrecisionName, alternate, peer, ratio
from modelyard.execution import ExecutionConfig
from modelyard.model.hf.weights import read_checkpoint, to_hf
from modelyard.model.inference.generate import generate
from modelyard.model.network import processor
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training.engine import Engine

Shape = StrEnum("Shape", ["tiny", "small", "smollm2"])
SHAPES = {"tiny": TINY, "small": SMALL, "smollm2": SMOLLM2}
BATCH, PROMPT = 16, 16


def same_weights(engine: Engine, model: ModelConfig, dtype: torch.dtype) -> Any:
    """transformers' model of the same shape with the engine's weights."""
    with tempfile.TemporaryDirectory() as directory:
        engine.save_weights(Path(directory) / "checkpoint")
        weights = to_hf(read_checkpoint(Path(directory) / "checkpoint"), model)
    module = peer(model, dtype)
    missing = module.load_state_dict(weights, strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}, missing  # tied
    module.tie_weights()
    module.generation_config.eos_token_id = module.generation_config.pad_token_id = None
    return module.eval()


def measure(shape: str, precision: Precision, count: int, rounds: int, threads: int) -> None:
    """One shape at one precision: a line for ours and for the peer."""
    model = SHAPES[shape]
    prompts = torch.randint(0, model.vocab_size, (BATCH, PROMPT), generator=torch.Generator().manual_seed(0))
    engine, compiled = (Engine(model, ExecutionConfig(threads=threads, compile=on), seed=0, precision=precision) for on in (False, True))
    module = same_weights(engine, model, torch.bfloat16 if precision == "bf16" else torch.float32)

    def ours(engine: Engine) -> list[list[int]]:
        return generate(engine, prompts.tolist(), max_new_tokens=count, temperature=0.0, seed=0).tokens

    def theirs() -> list[list[int]]:
        mask = torch.ones_like(prompts)
        drawn = module.generate(prompts, attention_mask=mask, max_new_tokens=count, do_sample=False, use_cache=True)
        return drawn[:, PROMPT:].tolist()

    sides = {"modelyard": lambda: ours(engine), "compiled": lambda: ours(compiled), "transformers": theirs}
    started = time.perf_counter()
    first = {name: run() for name, run in sides.items()}
    if precision == "fp32" and not first["modelyard"] == first["compiled"] == first["transformers"]:
        raise RuntimeError("greedy tokens differ")
    print(f"  {precision}  first calls, compiling included: {time.perf_counter() - started:.1f} s", flush=True)
    seconds = alternate(sides, rounds)
    for name, times in seconds.items():
        middle = statistics.median(times)
        rate, milliseconds, quotient = BATCH * count / middle, 1000 * middle / count, ratio(seconds, name, "transformers")
        print(f"  {precision}  {name:14s} {rate:9,.0f} new tokens/s {milliseconds:7.2f} ms a step   {quotient:.2f}x", flush=True)


def main(
    shapes: Annotated[list[Shape], typer.Option("--shape")] = [*Shape],
    precisions: Annotated[list[PrecisionName], typer.Option("--precision")] = [*PrecisionName],
    new_tokens: int = 96,
    rounds: int = 5,
    threads: int = 2,
) -> None:
    """Measure and print one table a shape."""
    print(processor.description(), flush=True)
    torch.set_num_threads(threads)
    for shape in shapes:
        size = f"{SHAPES[shape].parameters() / 1e6:.2f}M parameters"
        print(f"{shape}: {size}, random weights, batch {BATCH}, {new_tokens} new tokens, {threads} threads", flush=True)
        for precision in precisions:
            measure(shape, precision.value, new_tokens, rounds, threads)


if __name__ == "__main__":
    sys.exit(program(main))
