"""Builds real engines as one rank of worlds of eight, over torch's fake process group (collectives do nothing), and prints their bytes as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from modelyard.execution import ExecutionConfig
from modelyard.model.network import attention
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.token_data import language_model_loss

OPTIMIZER = OptimizerConfig(
    lr=1e-3, min_lr_ratio=0.1, warmup_steps=0, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8, clip_grad=1.0, schedule="constant"
)


def nbytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def state_bytes(optimizer: Any) -> int:
    """Moments and fp32 copies; not the step counters of torch's AdamW (one number a tensor)."""
    parts = optimizer.chained_optimizers
    moments = [v for part in parts for state in part.optimizer.state.values() for name, v in state.items() if name != "step"]
    copies = [p for part in parts for group in part.shard_fp32_from_float16_groups for p in group]
    return nbytes(moments) + nbytes(copies)


def written_bytes(engine: Engine) -> int:
    """What this rank copies and writes of a checkpoint."""
    from megatron.core.dist_checkpointing.dict_utils import nested_values
    from megatron.core.dist_checkpointing.mapping import is_main_replica

    return nbytes(part.data for part in nested_values(engine._own_share()) if is_main_replica(part.replica_id))


def measure(
    model: ModelConfig,
    precision: Any,
    sizes: tuple[int, ...],
    stage: int,
    micro_batch: int,
    recompute: Any,
    lora: dict[str, Any] | None,
) -> dict[str, int]:
    """Bytes of tensor-parallel rank 0 of pipeline stage ``stage``; activations of one micro-batch, on a one-stage pipeline only."""
    from megatron.core import parallel_state

    tensor, pipeline, data, expert, context = (*sizes, 1)[:5]
    ranks = tensor * data * context
    dist.init_process_group("fake", rank=stage * ranks, world_size=ranks * pipeline, store=FakeStore())
    execution = ExecutionConfig(
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        data_parallel=data,
        context_parallel=context,
        expert_parallel=expert,
        sequence_parallel=tensor > 1,
        recompute=recompute,
        threads=1,
    )
    engine = Engine(model, execution, seed=0, precision=precision, optim=OPTIMIZER, total_steps=2, lora=lora and LoRAConfig(**lora))
    assert engine.optimizer is not None
    for parameter in engine.trained():
        parameter.main_grad.normal_()
    engine.optimizer.step()
    result = {
        "parameters": sum(parameter.numel() for parameter in engine.gpt.parameters()),
        "weights": nbytes(engine.gpt.parameters()),
        "gradients": nbytes(parameter.main_grad for parameter in engine.trained()),
        "optimizer": state_bytes(engine.optimizer),
        "checkpoint": written_bytes(engine),
    }
    if pipeline == 1:
        result["activations"] = saved_bytes(engine, model, micro_batch)
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()
    return result


def saved_bytes(engine: Engine, model: ModelConfig, micro_batch: int) -> int:
    """Bytes of the distinct storages that autograd keeps of one forward pass; weights are not counted."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in engine.gpt.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    tokens = torch.randint(0, model.vocab_size, (micro_batch, model.seq_len))
    batch = Batch(tokens, tokens, {})
    engine.mode(training=True)
    engine.split_sequences(True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output, loss = engine._forward(batch, engine.chunks[0], language_model_loss, 0)
        loss(output)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def main() -> None:
    attention.SHORT = 0  # what a GPU keeps: scores are materialised on CPUs only
    whole = dist.new_group
    dist.new_group = lambda *args, **kwargs: whole(*args, **{**kwargs, "backend": "fake"})  # megatron-core asks for gloo by name
    cases = json.loads(sys.argv[1])
    print(json.dumps([measure(ModelConfig.model_validate(case.pop("model")), **case) for case in cases]))


if __name__ == "__main__":
    main()
