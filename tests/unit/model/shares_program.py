"""Builds every rank of some worlds over torch's fake process group, paints what each would write of a checkpoint, and says what is not painted once.

Prints JSON: for each layout how many bytes the ranks write, and the names of tensors with a gap or an overlap.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from modelyard.execution import ExecutionConfig
from modelyard.model.training.engine import Engine

from .layout_program import OPTIMIZER, case

LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "tp2-pp2-dp2": ("llama-tied", {"tensor_parallel": 2, "pipeline_parallel": 2, "data_parallel": 2}),
    "dp3": ("gpt-untied", {"data_parallel": 3}),
    "tp2-dp2, experts on every rank": ("llama-experts", {"tensor_parallel": 2, "data_parallel": 2, "sequence_parallel": True}),
    "tp2-dp2-ep2": ("llama-experts", {"tensor_parallel": 2, "data_parallel": 2, "sequence_parallel": True, "expert_parallel": 2}),
}


def parts(name: str, sizes: dict[str, Any], rank: int, world: int) -> list[Any]:
    """What this rank saves."""
    from megatron.core import parallel_state
    from megatron.core.dist_checkpointing.dict_utils import nested_values
    from megatron.core.dist_checkpointing.mapping import is_main_replica

    dist.init_process_group("fake", rank=rank, world_size=world, store=FakeStore())
    engine = Engine(case(name), ExecutionConfig(threads=1, **sizes), seed=0, precision="bf16", optim=OPTIMIZER, total_steps=2)
    found = [part for part in nested_values(engine._own_share()) if is_main_replica(part.replica_id)]
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()
    return found


def painted(name: str, sizes: dict[str, Any]) -> tuple[list[int], list[str]]:
    """Bytes by rank, and tensors that the ranks together do not write once."""
    world = sizes["data_parallel"] * sizes.get("tensor_parallel", 1) * sizes.get("pipeline_parallel", 1)
    counts: dict[str, torch.Tensor] = {}
    written = []
    for rank in range(world):
        own = parts(name, sizes, rank, world)
        written.append(sum(part.data.nbytes for part in own))
        for part in own:
            place = tuple(slice(start, start + size) for start, size in zip(part.global_offset, part.local_shape, strict=True))
            counts.setdefault(part.key, torch.zeros(part.global_shape, dtype=torch.int8))[place] += 1
    return written, sorted(key for key, count in counts.items() if not (count == 1).all())


def main() -> None:
    whole = dist.new_group
    dist.new_group = lambda *args, **kwargs: whole(*args, **{**kwargs, "backend": "fake"})  # megatron-core asks for gloo by name
    print(json.dumps({layout: painted(name, sizes) for layout, (name, sizes) in LAYOUTS.items()}))


if __name__ == "__main__":
    main()
