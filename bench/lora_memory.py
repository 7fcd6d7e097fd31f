"""Memory of PPO with adapters beside full training: what the models hold, what a process grows to, and what the plan says.

``python -m bench.lora_memory``. One iteration of the real loop's parts (sampling, judging by all four models, an update) on a Llama with random
weights, each side in a process of its own, one rank, fp32. Weights, gradients and optimizer are the bytes of distinct storages; the peak is the
process's (VmHWM), with activations, packed weights for generation and the libraries in it. Left out: GPUs, where libraries are not in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch

from bench.policies import ppo_config, token_rows, training_of
from bench.program import program
from bench.shapes import SMALL, SMOLLM2, TINY
from modelyard.execution import ExecutionConfig
from modelyard.model.network import processor
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.training.engine import Engine
from modelyard.posttrain.policy import rollout
from modelyard.posttrain.policy.update import update

SHAPES = {"tiny": TINY, "small": SMALL, "smollm2": SMOLLM2}
LORA = LoRAConfig(rank=16, alpha=32.0, targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
MIB = 1 << 20


def held(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the distinct storages behind ``tensors``."""
    return sum({(s := tensor.untyped_storage()).data_ptr(): s.nbytes() for tensor in tensors}.values())


def peak() -> int:
    """The most bytes that this process was resident with."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def moments(engine: Engine) -> list[torch.Tensor]:
    """What AdamW keeps, but for its counters."""
    states = (state for part in engine.optimizer.chained_optimizers for state in part.optimizer.state.values())
    return [value for state in states for name, value in state.items() if name != "step"]


def measure(shape: str, lora: LoRAConfig | None, threads: int) -> dict[str, int]:
    """Bytes by part after one iteration, with adapters or without."""
    torch.set_num_threads(threads)
    model, execution = SHAPES[shape], ExecutionConfig(threads=threads)
    sizes = {"iterations": 1, "episodes": 4, "minibatches": 1, "micro_batch": 2, "ptx_rows": 2, "ptx_coef": 0.5, "max_new_tokens": 16}
    config = ppo_config("fp32", **sizes, ema_decay=0.0, lora=lora)
    training = training_of(config, model, execution, token_rows(model, [16] * 4, 0))
    drawn = rollout.sample(training.models, training.prompts, 0, training.sampling)
    update(config, training, drawn, 0, config.kl_coef)
    engines = [engine for engine in training.models if engine is not None]
    trained = [engine for engine in engines if engine.optimizer is not None]
    return {
        "weights": held(p for engine in engines for p in engine.gpt.parameters()),
        "gradients": held(buffer.grad_data for engine in trained for chunk in engine.chunks for buffer in chunk.buffers),
        "optimizer": held(tensor for engine in trained for tensor in moments(engine)),
        "peak": peak(),
    }


def main(
    shape: Literal["tiny", "small", "smollm2"] = "smollm2", threads: int = 2, side: Literal["both", "full", "adapters"] = "both"
) -> None:
    """Measure both sides and print a line each; ``--side`` measures one in this process and prints JSON."""
    if side != "both":
        print(json.dumps(measure(shape, LORA if side == "adapters" else None, threads)))
        return
    print(processor.description())
    print(
        f"{shape}: {SHAPES[shape].parameters() / 1e6:.2f}M parameters, PPO's four models, fp32, rank {LORA.rank} on all matrices",
        flush=True,
    )
    for name in ("full", "adapters"):
        command = [sys.executable, "-m", "bench.lora_memory", "--shape", shape, "--threads", str(threads), "--side", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: {(done.stderr.strip().splitlines() or ['died'])[-1]}")
        found = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"  {name:9s}" + "".join(f"  {part} {size / MIB:9,.1f} MiB" for part, size in found.items()), flush=True)


if __name__ == "__main__":
    sys.exit(program(main))
