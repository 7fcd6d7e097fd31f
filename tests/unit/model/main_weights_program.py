"""Runs on each of two replicas in bf16: the same steps with weights written together and one by one; prints whether they are equal."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.model.training.engine import Engine
from tests.unit.model import layout_program as program


def stepped(overlap: str, together: bool) -> list[torch.Tensor]:
    shape = program.case("llama-untied")
    execution = ExecutionConfig(threads=1, data_parallel=2, overlap=overlap)  # type: ignore[arg-type]
    engine = Engine(shape, execution, seed=0, precision="bf16", optim=program.OPTIMIZER, total_steps=4)
    for part in engine.optimizer.chained_optimizers:
        if not together:
            del part._copy_main_params_to_model_params  # of the object; the class still has megatron-core's
    for _ in range(3):
        engine.train_step(program.batch_of(shape), 2, program.masked_loss)
    return [parameter.detach().clone() for parameter in engine.gpt.parameters()]


if __name__ == "__main__":
    for overlap in ("never", "always"):
        pairs = zip(stepped(overlap, True), stepped(overlap, False), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs), f"rank {dist.get_rank()}, overlap {overlap}"
    print("equal")
    sys.stdout.flush()
    dist.barrier()
    dist.destroy_process_group()
