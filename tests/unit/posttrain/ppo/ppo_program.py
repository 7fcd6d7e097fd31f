"""Runs on every rank of a world of two: the same two PPO iterations at each layout; rank 0 prints JSON. One rank calls :func:`measure` itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.posttrain.ppo import loop as ppo
from modelyard.posttrain.ppo.config import PPOConfig

LAYOUTS = {"tp2": {"tensor_parallel": 2}, "dp2": {"data_parallel": 2}, "pp2": {"pipeline_parallel": 2}}


def measure(config: PPOConfig, inputs: dict[str, Path], execution: ExecutionConfig, out: Path) -> dict[str, Any]:
    """What was sampled, how it was judged and what the updates report; the weights after the first and the second update go to ``out``."""
    training = ppo.prepare(config, inputs, execution)
    result: dict[str, Any] = {"completions": [], "numbers": [], "metrics": []}
    for iteration in range(2):
        drawn = ppo.sampled(config, training, iteration)
        result["completions"].append(drawn.completions)
        result["numbers"].append(
            [part.flatten().tolist() for part in (drawn.logprobs, drawn.reference_logprobs, drawn.values, drawn.scores)]
        )
        result["metrics"].append(ppo.update(config, training, drawn, iteration, config.kl_coef))
        trained = {"actor": training.models.actor, "value": training.models.value, "ema": training.ema}
        for name, engine in trained.items():
            assert engine is not None
            engine.save_weights(out / f"{name}-{iteration}")
    return result


def main() -> None:
    from megatron.core import parallel_state

    given = json.loads(Path(sys.argv[1]).read_text())
    config, inputs = PPOConfig(**given["config"]), {name: Path(path) for name, path in given["inputs"].items()}
    dist.init_process_group("gloo")
    results = {}
    for layout, sizes in LAYOUTS.items():
        results[layout] = measure(config, inputs, ExecutionConfig(threads=1, **sizes), Path(given["out"]) / layout)
        parallel_state.destroy_model_parallel()
    if dist.get_rank() == 0:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
