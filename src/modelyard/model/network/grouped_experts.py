"""The experts of one rank by grouped matrix products: one call of torch's ``grouped_mm`` a linear layer, however many experts there are.

megatron-core's ``SequentialMLP`` calls every expert in turn; its grouped layers need Transformer Engine or a kernel for GPUs only. These have the
same mathematics, initial weights and checkpoints as that loop: a layer's weights are one parameter, stored under the loop's names. Weights' gradients
are added to their fp32 sums expert by expert (:mod:`~modelyard.model.network.weight_gradients`), since torch's grouped product of bf16 factors gives
bf16. Left out: biases, experts that are cut (expert tensor parallelism), fp8.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.fusions.fused_bias_swiglu import weighted_bias_swiglu_impl
from megatron.core.transformer.module import MegatronModule
from torch import Tensor
from torch.autograd.function import once_differentiable

from modelyard.model.network import onednn, weight_gradients


class GroupedLinear(torch.nn.Module):
    """A linear layer of each of this rank's experts."""

    def __init__(self, experts: int, inputs: int, outputs: int, config: Any, groups: Any) -> None:
        super().__init__()
        shape = (experts, outputs, inputs)
        self.weight = torch.nn.Parameter(torch.empty(shape, dtype=config.params_dtype))
        self.groups = groups
        shared_out = config.expert_model_parallel_size > 1
        marks: Any = self.weight
        # gradients are summed over the ranks with these experts, and each expert counts once in their norm: shared out, every tensor-parallel
        # rank has others; else all have the same, and each has seen its part of the sequence
        marks.allreduce, marks.tensor_model_parallel = not shared_out, shared_out
        marks.sequence_parallel = config.sequence_parallel and not shared_out

    def forward(self, x: Tensor, ends: Tensor, counts: list[int]) -> Tensor:
        """Rows x [T, i], sorted by expert, where each expert's rows end [E] (int32), and how many each has -> [T, o]."""
        total = weight_gradients.sum_of(self.weight) if self.weight.requires_grad else None
        if total is not None:
            output: Tensor = _Summing.apply(x, self.weight, ends, counts, total)
            return output
        weight = onednn.computed(self.weight)
        if not len(x):  # no token came to this rank's experts; torch has no gradient for that
            return F.linear(x, weight[0].to(x.dtype))
        return F.grouped_mm(onednn.computed(x), weight.transpose(1, 2), offs=ends).to(x.dtype)

    def sharded_state_dict(self, prefix: str = "", sharded_offsets: Any = (), metadata: Any = None) -> dict[str, Any]:
        """The weights under the name that megatron-core gives those of single experts, an axis of experts behind that of layers."""
        place, _, own = prefix.removesuffix(".").rpartition(".")
        axis = (len(sharded_offsets), self.groups.ep.rank(), self.groups.ep.size())
        return {
            f"{prefix}weight": ShardedTensor.from_rank_offsets(
                f"{place}.experts.{own}.weight",
                self.weight,
                *sharded_offsets,
                axis,
                replica_id=(0, 0, self.groups.expt_dp.rank()),
                prepend_axis_num=len(sharded_offsets),
            )
        }


class _Summing(torch.autograd.Function):
    """The layer of x [T, i] and W [E, o, i], whose gradient is added to ``total`` [E, o, i]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, ends: Tensor, counts: list[int], total: Tensor) -> Tensor:
        ctx.counts, ctx.total = counts, total
        ctx.save_for_backward(x, weight, ends)
        return _grouped(x, weight.transpose(1, 2), ends)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, ends = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = _grouped(grad, weight, ends) if ctx.needs_input_grad[0] else None
        for own, slope, rows in zip(ctx.total, grad.split(ctx.counts), x.split(ctx.counts), strict=True):
            if len(rows):
                weight_gradients.add(own, slope, rows)
        return grad_x, weight_gradients.unread(weight), None, None, None


def _grouped(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Each expert's rows of x [T, i] times its W [E, i, o]."""
    if not len(x):
        return x.new_zeros(0, weight.shape[2])
    return F.grouped_mm(onednn.computed(x), onednn.computed(weight), offs=ends).to(x.dtype)


class GroupedExperts(MegatronModule):
    """Feed-forward blocks of this rank's experts, with megatron-core's signature of such a layer."""

    def __init__(self, num_local_experts: int, config: Any, pg_collection: Any) -> None:
        super().__init__(config)
        width, inner = config.hidden_size, config.moe_ffn_hidden_size
        self.linear_fc1 = GroupedLinear(num_local_experts, width, inner * (2 if config.gated_linear_unit else 1), config, pg_collection)
        self.linear_fc2 = GroupedLinear(num_local_experts, inner, width, config, pg_collection)

    def forward(self, hidden: Tensor, tokens_per_expert: Tensor, gates: Tensor) -> tuple[Tensor, None]:
        """Tokens [T, h], sorted by expert, how many each expert has [E], and their gates [T] -> outputs times gates [T, h]."""
        rows = tokens_per_expert.cumsum(0).to(hidden.device, torch.int32), tokens_per_expert.tolist()  # which are on the host
        return self.linear_fc2(self._gated(self.linear_fc1(hidden, *rows), gates[:, None]), *rows), None

    def _gated(self, inner: Tensor, gates: Tensor) -> Tensor:
        config = self.config
        if config.bias_activation_fusion:
            fused: Tensor = weighted_bias_swiglu_impl(inner, None, gates, False)
            return fused
        if config.gated_linear_unit:
            gate, up = inner.chunk(2, -1)
            activated = config.activation_func(gate) * up
        else:
            activated = config.activation_func(inner)
        return (activated * gates).to(inner.dtype)
