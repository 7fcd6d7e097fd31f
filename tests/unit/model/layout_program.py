"""Runs on every rank of a two-rank world: the same training, scoring, sampling and checkpoint reload at each layout; rank 0 prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from modelyard.config import ExecutionConfig
from modelyard.model.architecture import Head, ModelConfig
from modelyard.model.engine import Batch, Engine, LossOutput
from modelyard.model.generate import generate
from modelyard.model.optimizer import OptimizerConfig

OPTIMIZER = OptimizerConfig(
    lr=1e-2, min_lr_ratio=0.1, warmup_steps=1, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8, clip_grad=1.0, schedule="cosine"
)
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9, 10]]


def model(style: str, tied: bool) -> ModelConfig:
    return ModelConfig(
        style=style,  # type: ignore[arg-type]
        layers=2,
        hidden=32,
        heads=4,
        kv_heads=2,
        ffn_hidden=48,
        seq_len=32,
        vocab_size=128,
        tie_embeddings=tied,
        rope_base=10000.0,
        norm_eps=1e-5,
        init_std=0.1,
    )


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 128, (8, 25), generator=generator)
    # a mask that gives the halves of the batch unequal counts
    mask = torch.rand(8, 24, generator=generator) < torch.linspace(0.1, 0.9, 8)[:, None]
    return Batch(tokens[:, :-1], tokens[:, 1:], {"mask": mask})


def masked_loss(output: torch.Tensor, part: Batch) -> LossOutput:
    mask = part.extras["mask"]
    return LossOutput(((output + 1).square() * mask).sum(), mask.sum(), {"mean": (output * mask).sum()})


def engine(execution: ExecutionConfig, style: str, tied: bool, head: Head) -> Engine:
    return Engine(model(style, tied), execution, seed=3, precision="fp32", head=head, optim=OPTIMIZER, total_steps=6)


def measure(execution: ExecutionConfig, style: str, tied: bool, saved: Path | None) -> dict[str, Any]:
    """Losses and gradient norms of three steps, scores, samples; then two more steps, from ``saved`` if given (written at another layout)."""
    data, lm, scalar = batch(), engine(execution, style, tied, "lm"), engine(execution, style, tied, "scalar")
    steps = [e.train_step(data, 2, masked_loss) for e in (lm, lm, lm, scalar, scalar)]
    result: dict[str, Any] = {
        "loss": [step["loss"] for step in steps],
        "grad_norm": [step["grad_norm"] for step in steps],
        "scores": lm.evaluate(data, 2)[:, ::6].flatten().tolist(),
    }
    generation = generate(lm, PROMPTS, max_new_tokens=8, temperature=1.0, seed=5)
    result["sampled"], result["logprobs"] = generation.tokens, generation.logprobs
    if saved:
        lm.load(saved)
        result["resumed"] = [lm.train_step(data, 2, masked_loss)["loss"] for _ in range(2)]
    return result


def main() -> None:
    from megatron.core import parallel_state

    saved, results = Path(sys.argv[1]), {}
    dist.init_process_group("gloo")
    for name, sizes in {"tp2": (2, 1, 1), "pp2": (1, 2, 1), "dp2": (1, 1, 2)}.items():
        execution = ExecutionConfig(tensor_parallel=sizes[0], pipeline_parallel=sizes[1], data_parallel=sizes[2], threads=1)
        for style, tied in (("llama", True), ("gpt", False)):
            results[f"{name}/{style}"] = measure(execution, style, tied, saved / style)
        parallel_state.destroy_model_parallel()
    if dist.get_rank() == 0:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
