"""One of two replicas that checkpoint: what each copies, writes and hashes; a run to be killed at any moment; and that run resumed.

``shards_program ROOT measured|resumed`` with RANK in the environment; rank 0 prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints import checkpoint
from modelyard.model.network import parallel
from modelyard.model.training import trainer
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.progress import silent

from .layout_program import OPTIMIZER, batch, masked_loss, model

STEPS = 9
GATHERS = ("all_gather", "all_gather_into_tensor", "all_gather_object", "gather", "gather_object", "_all_gather_base")


def engine() -> Engine:
    return Engine(model("llama", True), execution(), seed=1, precision="bf16", optim=OPTIMIZER, total_steps=STEPS)


def execution(**changes: Any) -> ExecutionConfig:
    return ExecutionConfig(data_parallel=2, threads=1, log_every=1, **changes)


def state(trained: Engine) -> list[torch.Tensor]:
    """Weights and this rank's part of the optimizer."""
    parts = trained.optimizer.chained_optimizers
    moments = [value for part in parts for values in part.optimizer.state.values() for value in values.values()]
    copies = [copy for part in parts for group in part.shard_fp32_from_float16_groups for copy in group]
    return [tensor.detach().clone() for tensor in (*trained.gpt.parameters(), *moments, *copies)]


def watched(names: tuple[str, ...], seen: list[str]) -> None:
    """Note the calls of torch.distributed's functions ``names`` on the thread of training."""

    def watch(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                seen.append(name)
            return function(*args, **kwargs)

        return called

    for name in names:
        setattr(dist, name, watch(name, getattr(dist, name)))


def measured(root: Path) -> dict[str, Any]:
    """A checkpoint of two replicas, saved while training goes on."""
    gathered: list[str] = []
    hashed: list[str] = []
    sha256_file = checkpoint.sha256_file

    def hash_file(path: Path) -> str:
        hashed.append(path.name)
        return sha256_file(path)

    trained = engine()
    for _ in range(2):
        trained.train_step(batch(), 2, masked_loss)
    before = state(trained)
    watched(GATHERS, gathered)
    checkpoint.sha256_file = hash_file  # type: ignore[attr-defined]
    trained.save(root / "step_00000002", beside=True)
    gathered = list(gathered)
    trained.train_step(batch(), 2, masked_loss)
    checkpoint.wait()
    went_on = not all(torch.equal(a, b) for a, b in zip(before, state(trained), strict=True))
    trained.load(root / "step_00000002")
    same = all(torch.equal(a, b) for a, b in zip(before, state(trained), strict=True))
    return {"gathered": gathered, "hashed": sorted(hashed), "went_on": went_on, "same": same}


def trained_on(root: Path, steps: int, every: int = 1) -> tuple[Engine, list[int]]:
    """Train up to ``steps`` with a checkpoint after every so many; the second is the steps that were taken."""
    trained, seen = engine(), []

    def data(step: int) -> Batch:
        seen.append(step)
        return batch()._replace(tokens=torch.randint(0, 127, batch().tokens.shape, generator=torch.Generator().manual_seed(step)))

    trainer.train(
        trained,
        data,
        steps=steps,
        micro_batch=2,
        loss_fn=masked_loss,
        stage="tiny",
        checkpoints=root,
        execution=execution(keep_last=3, checkpoint_every=every),
        report=silent,
    )
    return trained, seen


def resumed(root: Path) -> dict[str, Any]:
    """The run that was killed and one that was not, up to the same step."""
    again, seen = trained_on(root / "run", STEPS)
    whole, _ = trained_on(root / "whole", STEPS, every=STEPS)
    return {"first": seen[0], "same": all(torch.equal(a, b) for a, b in zip(state(again), state(whole), strict=True))}


def main(root: Path, phase: str) -> None:
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo", init_method=f"file://{root / phase}-rendezvous", rank=rank, world_size=2)
    told: list[Any] = [None, None]
    dist.all_gather_object(told, measured(root) if phase == "measured" else resumed(root))
    if rank == 0:
        print(json.dumps(told), flush=True)
    if phase == "measured":
        trained_on(root / "run", 1_000_000)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
    parallel.leave()
