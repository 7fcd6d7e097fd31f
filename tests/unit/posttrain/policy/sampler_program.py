"""Runs on every rank of a world of two replicas: two iterations whose samples a server draws, then one that fails; every rank prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.model.network import first_rank, parallel
from modelyard.posttrain.policy import loop, sampler
from modelyard.posttrain.policy.config import GRPOConfig


def unpickled(what: object) -> None:
    """Fails with what cannot be sent to another rank."""
    error = RuntimeError("the disk is gone")
    error.add_note(str(what))
    error.what = what  # type: ignore[attr-defined]
    raise error


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    config, inputs = GRPOConfig(**given["config"]), {role: Path(path) for role, path in given["inputs"].items()}
    execution = ExecutionConfig(threads=1, data_parallel=2, sampler=given["sampler"], sampler_requests=16)
    dist.init_process_group("gloo")
    first_rank.TICK_SECONDS = 0.0  # the other rank hears of every completion
    training = loop.prepare(config, inputs, execution)
    result: dict[str, Any] = {"notes": [], "completions": [], "error": ""}
    with sampler.drawing(config, inputs["sft"], Path(given["out"]), execution) as draw:
        for iteration in range(2):
            drawn = loop.sampled(config, training._replace(draw=draw), iteration)
            result["notes"].append({**drawn.notes, "policy/generation_drift": drawn.drift})
            result["completions"].append(drawn.completions)
            loop.update(config, training, drawn, iteration, config.kl_coef)
        try:
            draw(training.models.actor, [[10_000]], 0, training.sampling)  # no token of the model's
        except ValueError as error:
            result["error"] = str(error)
        try:
            first_rank.on_first_rank(lambda: unpickled(lambda: None))
        except RuntimeError as error:
            result["failure"] = str(error)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
    parallel.leave()
