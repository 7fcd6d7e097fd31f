"""oneDNN's matrix products on a CPU, where they are faster than torch's own (docs/benchmarks.md).

By two private operators that torch's compiler uses for the same purpose; everything that knows of them is here. Code that torch.compile compiles
calls :func:`whole_product` and :meth:`PackedWeights.product` instead: one takes weights as they are, the other a number that stands for packed
ones, which the compiler refuses as arguments.

How weights are kept and how products are computed are two things: where a CPU has no instructions for bfloat16, :func:`computed` gives a product
its factors in fp32, in which they are exact, and the result is rounded back. That is what the instructions do too, so the two differ by the order
of their sums. Left out: gradients.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Mapping

import torch
from torch import Tensor

from modelyard.model.network import processor

FP32 = torch.backends.mkldnn.is_available()
BF16 = processor.multiplies_bf16()
FEW, SMALL = 64, 100_000
"""Rows, and elements of an fp32 weight, up to which a call of oneDNN's costs more than its product saves."""


def multiplies(tensor: Tensor) -> bool:
    """Whether products of ``tensor`` can be oneDNN's: on a CPU that it has kernels for, in fp32 or bf16."""
    return tensor.device.type == "cpu" and ((FP32 and tensor.dtype == torch.float32) or (BF16 and tensor.dtype == torch.bfloat16))


def product_dtype(kept: torch.dtype, device: torch.device) -> torch.dtype:
    """The format in which products of tensors kept in ``kept`` are computed."""
    return torch.float32 if kept == torch.bfloat16 and device.type == "cpu" and not BF16 else kept


def computed(tensor: Tensor) -> Tensor:
    """A factor as products take it; their result belongs back in the format that it is kept in."""
    return tensor.to(product_dtype(tensor.dtype, tensor.device))


def too_small(weight: Tensor, rows: int) -> bool:
    """Whether products of W [o, i] with about ``rows`` rows are better left to torch."""
    return weight.dtype == torch.float32 and rows <= FEW and weight.numel() <= SMALL


def packed(weight: Tensor, rows: int) -> Tensor:
    """W [o, i] laid out for products with about ``rows`` rows."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """x W^T + b of x [..., i] and W [o, i], packed or not, through an activation ("swish")."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "")


def times(x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
    """(x W^T + b) * other of x [..., i], W [o, i] and ``other`` [..., o]."""
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, "mul")


@torch.library.custom_op("modelyard::product", mutates_args=())
def whole_product(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T of x [..., i] and W [o, i], not packed: one operation to torch.compile, which knows the private one with packed weights only."""
    return product(x, weight)


@whole_product.register_fake
def _shape_of_whole_product(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


_tables: dict[int, dict[int, Tensor]] = {}
_numbers = itertools.count()
_library = torch.library.Library("modelyard", "FRAGMENT")
_library.define("packed_product(Tensor x, Tensor table, int index, int width) -> Tensor")


def _packed_product(x: Tensor, table: Tensor, index: int, width: int) -> Tensor:
    return product(x, _tables[int(table.item())][index])


_library.impl("packed_product", _packed_product, "CPU")


@torch.library.register_fake("modelyard::packed_product", lib=_library)
def _shape_of_packed_product(x: Tensor, table: Tensor, index: int, width: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], width)


class PackedWeights:
    """Packed weights under one number, a tensor, so that compiled code serves any of such tables; they live as long as this object."""

    def __init__(self, weights: Mapping[int, Tensor]) -> None:
        number = next(_numbers)
        _tables[number] = dict(weights)
        self.table = torch.tensor(number)
        weakref.finalize(self, _tables.pop, number)

    @staticmethod
    def product(x: Tensor, table: Tensor, index: int, width: int) -> Tensor:
        """x W^T of x [..., i] and the table's weight ``index`` [width, i]."""
        return torch.ops.modelyard.packed_product(x, table, index, width)
