"""Sums of gradients over replicas beside the backward pass, and updated weights beside the next forward pass.

megatron-core's DDP makes the first: parameters stand in buckets in the order of the backward pass, and the reduce-scatter of
a bucket begins when the last of its gradients is there (Li et al. 2020, "PyTorch Distributed", section 3.2). Weights are gathered by its buckets too,
but begun and waited for here: all are begun behind the update, on every rank, the first layer's first; who needs weights waits for
their bucket, which takes no other rank. So weights may be read on one rank alone, and a compiled layer has no hook
inside. Left out: models that are shown images (a batch without one leaves parameters without gradients, and their bucket would never be full).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.network import chunks as model_chunks
from modelyard.model.network.model_config import ModelConfig

BUCKET = 40_000_000
"""Parameters of a bucket at least, megatron-core's own number; as many times more as there are 40 replicas, so that messages stay
large."""


def wanted(execution: ExecutionConfig, model: ModelConfig, device: torch.device) -> bool:
    """Whether communication between replicas runs beside the passes."""
    replicas = execution.data_parallel * execution.context_parallel
    chosen = execution.overlap == "always" or (execution.overlap == "auto" and device.type == "cuda")
    return chosen and replicas > 1 and model.vision is None


def settings(on: bool, replicas: int) -> dict[str, Any]:
    """What megatron-core's DDP is told; ``replicas`` is the number of ranks that it sums over."""
    if not on:
        return {"overlap_grad_reduce": False, "overlap_param_gather": False}
    return {
        "overlap_grad_reduce": True,
        "overlap_param_gather": True,
        "align_param_gather": True,  # gathers are begun by us
        "bucket_size": BUCKET * max(1, replicas // 40),
    }


def groups(wrapped: Iterable[Any]) -> list[Any]:
    """All groups of buckets of DDP-wrapped chunks, in the order of the backward pass."""
    return [group for part in wrapped for group in (*part.bucket_groups, *part.expert_parallel_bucket_groups)]


def wait_where_used(wrapped: Any) -> None:
    """Have each layer of a DDP-wrapped chunk wait for its own weights, and what stands around the layers for theirs."""
    wrapped.disable_forward_pre_hook(param_sync=False)  # one on every module, those within compiled layers too
    gpt = model_chunks.bare(wrapped)
    last = [part for part in (getattr(gpt.decoder, "final_layernorm", None), getattr(gpt, "output_layer", None)) if part is not None]
    behind = {parameter for part in (*gpt.decoder.layers, *last) for parameter in part.parameters()}
    _wait_before(gpt, [parameter for parameter in gpt.parameters() if parameter not in behind], wrapped)
    for layer in gpt.decoder.layers:
        _wait_before(layer, layer.parameters(), wrapped)
    if last:  # the output layer's product is the loss's, which calls no module
        _wait_before(last[0], [parameter for part in last for parameter in part.parameters()], wrapped)


def _wait_before(module: torch.nn.Module, parameters: Iterable[torch.nn.Parameter], wrapped: Any) -> None:
    needed = list(dict.fromkeys(wrapped.param_to_bucket_group[one] for one in parameters if one in wrapped.param_to_bucket_group))
    module.register_forward_pre_hook(lambda *_: wait(needed))


def begin(buckets: Sequence[Any]) -> None:
    """Begin to gather the weights in these groups of buckets that the replicas have updated; every rank calls it."""
    for group in reversed(buckets):
        group.start_param_sync()


def wait(buckets: Iterable[Any]) -> None:
    """Return when the weights in these groups of buckets are whole; on a GPU the current stream waits, not the host."""
    for group in buckets:
        if group.param_gather_handle is not None:
            group.param_gather_handle.wait()
            group.param_gather_handle = None
