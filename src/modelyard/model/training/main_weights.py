"""New weights from the optimizer's fp32 ones: one operation for a whole model in place of one a tensor.

megatron-core's distributed optimizer copies its fp32 main weights into the model's bf16 ones tensor by
tensor, looking up where each stands: on a GPU a kernel each, launched by a host that has nothing else in
hand. Their places never change, so they are looked up once, and torch's ``_foreach_copy_`` rounds all of
them. In fp32 the main weights are the model's own memory and nothing is copied. Left out: weights kept in
fp8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def write_together(part: Any) -> None:
    """Have one of megatron-core's distributed optimizers write its main weights into the model's together;
    every value is the one it was."""
    lists: dict[tuple[torch.dtype, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in _pairs(part):
        if target.data_ptr() != source.data_ptr():
            targets, sources = lists.setdefault((target.dtype, source.dtype), ([], []))  # a list of one dtype is one kernel on a GPU
            targets.append(target)
            sources.append(source)

    @torch.no_grad()
    def write() -> None:
        for targets, sources in lists.values():
            torch._foreach_copy_(targets, sources)

    part._copy_main_params_to_model_params = write


def _pairs(part: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Each of this rank's cuts of a weight as the model has it and as the optimizer has it, both [n]."""
    groups = ((part.shard_fp32_from_float16_groups, part.model_float16_groups), (part.shard_fp32_groups, part.model_fp32_groups))
    for mains, models in groups:
        for main_group, model_group in zip(mains, models, strict=True):
            for main, model in zip(main_group, model_group, strict=True):
                place = part._get_model_param_range_map(model)["gbuf_world_in_bucket"]
                buffer, _, bucket = part.model_param_gbuf_map[model]
                yield part.buffers[buffer].buckets[bucket].param_data.view(-1)[place.start : place.end], main
