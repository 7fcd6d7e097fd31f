"""Matrix products of inference, over weights that are laid out once for many calls.

On a CPU they are oneDNN's: on the few rows of a decoding step that takes a third of the time of torch's product (docs/benchmarks.md). Of many rows
the activation behind a product is computed with it. Left out: gradients.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from modelyard.model.network import onednn
from modelyard.model.network.lora import weight_of


class Product:
    """x W^T + b for x [..., i] and W [o, i], all rounded to ``dtype`` (the weights' own by default), the result in x's.

    On a CPU without instructions for bf16 the rounded numbers are multiplied in fp32: W is cast once, here.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype or weight.dtype
        self.weight = onednn.computed(weight.detach().to(self.dtype))
        self.bias = None if bias is None else bias.detach().to(self.dtype).to(self.weight.dtype)
        self.packed = None
        if onednn.multiplies(self.weight):
            if onednn.too_small(self.weight, rows):
                self.weight = self.weight.t().contiguous().t()  # torch's products of few rows go faster along it
            else:
                self.packed = onednn.packed(self.weight, rows)

    def __call__(self, x: Tensor) -> Tensor:
        """[..., i] -> [..., o]."""
        given = x.to(self.dtype).to(self.weight.dtype)
        output = F.linear(given, self.weight, self.bias) if self.packed is None else onednn.product(given, self.packed, self.bias)
        return output.to(self.dtype).to(x.dtype)


def output_product(gpt: Any, rows: int, dtype: torch.dtype | None = None) -> Product:
    """The output layer of a ``GPTModel``, tied or not."""
    tied = gpt.share_embeddings_and_output_weights
    return Product(gpt.shared_embedding_or_output_weight() if tied else gpt.output_layer.weight, None, rows, dtype)


class SiluGate:
    """silu(x G^T + g) * (x U^T + u) for x [..., i] and the fused weight [G; U] [2 o, i], where it :meth:`fits`.

    Both operations are part of the products that feed them, whose sums oneDNN still holds in fp32: one pass over memory instead of four, and one
    rounding less (docs/benchmarks.md).
    """

    def __init__(self, linear: Any, rows: int, dtype: torch.dtype) -> None:
        biases = (None, None) if linear.bias is None else linear.bias.chunk(2)
        gate, up = (Product(weight, bias, rows, dtype) for weight, bias in zip(weight_of(linear).chunk(2), biases, strict=True))
        assert gate.packed is not None
        assert up.packed is not None
        self.gate, self.up = (gate.packed, gate.bias), (up.packed, up.bias)

    @staticmethod
    def fits(activation: Any, gated: bool, weight: Tensor, dtype: torch.dtype, rows: int) -> bool:
        """Whether products of ``weight`` in ``dtype`` have the activation computed with them here."""
        probe = weight.detach().new_empty(0, dtype=dtype)
        return gated and activation is F.silu and onednn.multiplies(probe) and rows > onednn.FEW

    def __call__(self, x: Tensor) -> Tensor:
        """[..., i] -> [..., o]."""
        return onednn.times(x, *self.up, onednn.product(x, *self.gate, activation="swish"))


class RowParallel:
    """A row-parallel product, summed over the tensor-parallel ranks before its bias is added."""

    def __init__(self, linear: Any, rows: int, tp_group: Any | None, dtype: torch.dtype | None) -> None:
        self.tp_group = tp_group
        self.product = Product(weight_of(linear), linear.bias if tp_group is None else None, rows, dtype)
        self.bias = None if tp_group is None else linear.bias

    def __call__(self, x: Tensor) -> Tensor:
        """[..., i of this rank] -> [..., o]."""
        output = self.product(x)
        if self.tp_group is not None:
            dist.all_reduce(output, group=self.tp_group)
        return output if self.bias is None else output + self.bias
