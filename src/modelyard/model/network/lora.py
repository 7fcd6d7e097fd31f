"""LoRA (Hu et al. 2021, arXiv:2106.09685): the weights of a trained model stay as they are, and a product W x becomes W x + (alpha / r) B A x.

A layer's fused products (queries, keys and values; gate and up) have an A and a B for each of the matrices that Hugging Face's layout keeps apart,
so adapters are PEFT's whatever the layout. Only the ``rank`` columns between A and B travel between tensor-parallel ranks: before a column-parallel
product they are gathered, behind a row-parallel one they are summed. Where tensor-parallel ranks share a key head, the fused rows of a rank are no
rows of one matrix: every rank then has B of queries, keys and values whole, its gradient summed over the ranks. What is merged is computed as PEFT
computes it, from whole matrices, so a merged weight is PEFT's bit for bit. Left out: embeddings and the output layer, experts, GPT style, biases,
DoRA, ranks of their own for layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from pydantic import Field, field_validator
from torch import Tensor

from modelyard.config import Config
from modelyard.model.network import fused
from modelyard.model.network.parallel import Layout

Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Matrices of a layer by Hugging Face's names."""
PLACE = "adapters"
"""Name of the module that holds a linear layer's adapters; it stands in the names of their parameters."""


class LoRAConfig(Config):
    """Low-rank adapters in place of training all weights."""

    rank: int = Field(ge=1)
    """Columns of B and rows of A (Hu et al.: 4 on two matrices or 8 on one of GPT-3's, table 5; already 1 to 4 do well, table 6)."""
    alpha: float = Field(gt=0)
    """What B A is multiplied by, times ``rank`` (Hu et al.: the first rank that is tried, and not tuned, section 4.1; 32 at rank 4 for GPT-2)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a product's inputs that its adapters do not see in training (Hu et al.: 0.1 for GPT-2)."""
    targets: tuple[Target, ...]
    """Matrices that get adapters, in every layer (Hu et al.: ``q_proj`` and ``v_proj``, section 7.1; all seven come closer to full training)."""

    @field_validator("targets")
    @classmethod
    def _each_once(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        if not targets:
            raise ValueError("at least one matrix must get adapters")
        if len(set(targets)) < len(targets):
            raise ValueError(f"{next(name for name in targets if targets.count(name) > 1)} is there twice")
        return targets

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / self.rank


class Matrix(NamedTuple):
    """A matrix of Hugging Face's layout within a fused one of ours."""

    name: Target
    rows: int
    """Outputs on one tensor-parallel rank."""


class Adapters(torch.nn.Module):
    """The adapters of one linear layer: ``a.NAME`` [r, i] and ``b.NAME`` [o, r] of each targeted matrix in it.

    Under a column-parallel layer B is cut by its outputs, under a row-parallel one A by its inputs; the other one is the same on all ranks, and
    of a ``shared`` layer both are.
    """

    def __init__(
        self, linear: Any, matrices: Sequence[Matrix], groups: int, lora: LoRAConfig, layout: Layout, row: bool, shared: bool = False
    ) -> None:
        """``groups``: how often the matrices' rows take turns in the fused one (queries, keys and values: once a key group); ``shared``: these
        are all of the model's, and this rank's rows are a part of the fused ones."""
        super().__init__()
        self.matrices, self.groups, self.lora, self.layout, self.row = tuple(matrices), groups, lora, layout, row
        self.shared = shared
        inputs, like = linear.weight.shape[1], {"dtype": linear.weight.dtype, "device": linear.weight.device}
        chosen = [matrix for matrix in matrices if matrix.name in lora.targets]
        self.a = torch.nn.ParameterDict({m.name: torch.nn.Parameter(torch.zeros(lora.rank, inputs, **like)) for m in chosen})
        self.b = torch.nn.ParameterDict({m.name: torch.nn.Parameter(torch.zeros(m.rows, lora.rank, **like)) for m in chosen})
        split, same, dim = (self.a, self.b, 1) if row else (self.b, self.a, 0)
        for parameter in () if shared else split.values():
            parameter.tensor_model_parallel, parameter.partition_dim, parameter.partition_stride = True, dim, 1
        for parameter in same.values():
            parameter.sequence_parallel = linear.sequence_parallel  # each rank sees a part of the sequence

    @property
    def names(self) -> tuple[Target, ...]:
        """The targeted matrices."""
        return tuple(matrix.name for matrix in self.matrices if matrix.name in self.a)

    def forward(self, x: Tensor, sequence_parallel: bool, group: Any) -> Tensor:
        """What the adapters add to the layer's output, of the layer's input x [s, b, i]."""
        low = fused.linear(self._dropped(x, sequence_parallel), torch.cat([self.a[name] for name in self.names]), None) * self.lora.scale
        if self.layout.tp > 1:
            low = _exchanged(low, self.row, sequence_parallel, group)
        parts = low.split(self.lora.rank, -1)
        b = {name: self._b(name, group) for name in self.names}
        return self._own_rows(
            self._joined({name: fused.linear(part, b[name], None) for name, part in zip(self.names, parts, strict=True)}), -1
        )

    def _b(self, name: Target, group: Any) -> Tensor:
        """B of a matrix; of a shared layer with a gradient that is the sum of what every rank's rows give."""
        if not self.shared:
            return self.b[name]
        from megatron.core import tensor_parallel as tp

        whole: Tensor = tp.copy_to_tensor_model_parallel_region(self.b[name], group=group)
        return whole

    def _own_rows(self, fused_rows: Tensor, dim: int) -> Tensor:
        """This rank's part of what a shared layer's matrices make together."""
        return fused_rows.chunk(self.layout.tp, dim)[self.layout.tp_rank] if self.shared else fused_rows

    def _dropped(self, x: Tensor, sequence_parallel: bool) -> Tensor:
        """Inputs x [s, b, i] with some left out in training, the same ones for all matrices of the layer.

        The mask is drawn whole by every tensor-parallel rank, which takes its part: what is dropped does not depend on their number.
        """
        if not self.lora.dropout or not self.training:
            return x
        dim = 2 if self.row else 0 if sequence_parallel else None
        shape = list(x.shape)
        if dim is not None:
            shape[dim] *= self.layout.tp
        kept = torch.rand(shape, device=x.device) >= self.lora.dropout
        if dim is not None:
            kept = kept.chunk(self.layout.tp, dim)[self.layout.tp_rank]
        return x * kept / (1 - self.lora.dropout)

    def _joined(self, found: Mapping[Target, Tensor]) -> Tensor:
        """Matrices' outputs [..., o] in the order in which the fused one has them; 0 where a matrix has no adapter."""
        like = next(iter(found.values()))
        if len(self.matrices) == 1:
            return like
        pieces = (found[m.name] if m.name in found else like.new_zeros(*like.shape[:-1], m.rows) for m in self.matrices)
        return torch.cat([piece.unflatten(-1, (self.groups, -1)) for piece in pieces], -1).flatten(-2)

    def whole(self) -> dict[Target, tuple[Tensor, Tensor]]:
        """A [r, i] and B [o, r] of every targeted matrix as one rank would have them; every tensor-parallel rank calls it."""
        a, b = ({name: parameter.detach() for name, parameter in part.items()} for part in (self.a, self.b))
        if self.shared:
            return {name: (a[name], b[name]) for name in self.names}
        if self.row:
            return {name: (self._gathered(a[name], 1), b[name]) for name in self.names}
        return {name: (a[name], self._gathered(b[name], 0)) for name in self.names}

    def take(self, name: Target, a: Tensor, b: Tensor) -> None:
        """This rank's parts of a matrix's whole A and B. Raises ValueError where they have another shape."""
        with torch.no_grad():
            for parameter, given in ((self.a[name], a), (self.b[name], b)):
                part = given
                if getattr(parameter, "tensor_model_parallel", False):
                    part = given.chunk(self.layout.tp, parameter.partition_dim)[self.layout.tp_rank]
                if part.shape != parameter.shape:
                    raise ValueError(f"{name}: the model has no place for a matrix of {tuple(given.shape)}")
                parameter.copy_(part)

    def merged(self, weight: Tensor) -> Tensor:
        """This rank's weight with the adapters in it, as PEFT merges them; every tensor-parallel rank calls it."""
        merged = weight.detach().clone()
        if self.shared:
            deltas = {name: (b.float() @ a.float()) * self.lora.scale for name, (a, b) in self.whole().items()}
            merged += self._own_rows(self._joined({name: delta.t() for name, delta in deltas.items()}).t(), 0)
            return merged
        pieces = merged.unflatten(0, (self.groups, -1)).split([matrix.rows // self.groups for matrix in self.matrices], 1)
        whole = self.whole()
        for matrix, piece in zip(self.matrices, pieces, strict=True):
            if matrix.name in whole:
                a, b = whole[matrix.name]
                delta = (b.float() @ a.float()) * self.lora.scale
                piece += delta.chunk(self.layout.tp, 1 if self.row else 0)[self.layout.tp_rank].unflatten(0, (self.groups, -1))
        return merged

    def _gathered(self, part: Tensor, dim: int) -> Tensor:
        if self.layout.tp == 1:
            return part
        from megatron.core import parallel_state

        parts = [torch.empty_like(part) for _ in range(self.layout.tp)]
        dist.all_gather(parts, part.contiguous(), group=parallel_state.get_tensor_model_parallel_group())
        return torch.cat(parts, dim)

    def split_axes(self) -> dict[str, int]:
        """Name of each parameter that is cut over the tensor-parallel ranks -> the dimension that is."""
        if self.shared:
            return {}
        return {f"{PLACE}.a.{name}": 1 for name in self.names} if self.row else {f"{PLACE}.b.{name}": 0 for name in self.names}


def _exchanged(low: Tensor, row: bool, sequence_parallel: bool, group: Any) -> Tensor:
    """The columns between A and B [s, b, n r] as every rank's B needs them."""
    from megatron.core import tensor_parallel as tp

    if row:
        reduce = tp.reduce_scatter_to_sequence_parallel_region if sequence_parallel else tp.reduce_from_tensor_model_parallel_region
        return reduce(low, group=group)
    return (tp.gather_from_sequence_parallel_region if sequence_parallel else tp.copy_to_tensor_model_parallel_region)(low, group=group)


def adapt(layers: Any, lora: LoRAConfig, layout: Layout, head_width: int) -> None:
    """Give the linear layers of a stage's transformer layers their adapters, all 0."""
    for layer in layers:
        attention, mlp = layer.self_attention, layer.mlp
        shared = layer.config.num_query_groups < layout.tp
        ranks = 1 if shared else layout.tp
        groups = layer.config.num_query_groups // ranks
        queries = Matrix("q_proj", layer.config.num_attention_heads // ranks * head_width)
        qkv = (queries, Matrix("k_proj", groups * head_width), Matrix("v_proj", groups * head_width))
        inner = mlp.linear_fc1.weight.shape[0] // 2
        places = (
            (attention.linear_qkv, qkv, groups, False, shared),
            (attention.linear_proj, (Matrix("o_proj", attention.linear_proj.weight.shape[0]),), 1, True, False),
            (mlp.linear_fc1, (Matrix("gate_proj", inner), Matrix("up_proj", inner)), 1, False, False),
            (mlp.linear_fc2, (Matrix("down_proj", mlp.linear_fc2.weight.shape[0]),), 1, True, False),
        )
        for linear, matrices, taking_turns, row, whole in places:
            if any(matrix.name in lora.targets for matrix in matrices):
                linear.adapters = Adapters(linear, matrices, taking_turns, lora, layout, row, whole)


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return f".{PLACE}." in name


def weight_of(linear: Any) -> Tensor:
    """A linear layer's weight, its adapters merged; every tensor-parallel rank calls it where there are any."""
    adapters = getattr(linear, PLACE, None)
    return linear.weight if adapters is None else adapters.merged(linear.weight)


def adapted(gpt: Any) -> Iterator[tuple[int, str, Any]]:
    """Every linear layer of this rank that has adapters: number of its layer from 0, name within the layer, and itself."""
    for layer in gpt.decoder.layers:
        for name, module in layer.named_modules():
            if getattr(module, PLACE, None) is not None:
                yield layer.layer_number - 1, name, module


def initial_bound(inputs: int) -> float:
    """Half the width of the uniform distribution of A's first values, with ``inputs`` columns: PEFT's (Kaiming, a = sqrt(5)); B begins at 0."""
    return 1 / math.sqrt(inputs)
