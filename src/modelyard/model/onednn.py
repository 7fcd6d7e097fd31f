"""oneDNN's matrix products on a CPU, where they are faster than torch's own (docs/benchmarks.md).

By two private operators that torch's compiler uses for the same purpose; everything that knows of them is here. Left out: gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

FP32 = torch.backends.mkldnn.is_available()
BF16 = FP32 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def multiplies(tensor: Tensor) -> bool:
    """Whether products of ``tensor`` can be oneDNN's: on a CPU that it has kernels for, in fp32 or bf16."""
    return tensor.device.type == "cpu" and ((FP32 and tensor.dtype == torch.float32) or (BF16 and tensor.dtype == torch.bfloat16))


def packed(weight: Tensor, rows: int) -> Tensor:
    """W [o, i] laid out for products with about ``rows`` rows."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b of x [..., i] and W [o, i], packed or not."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@torch.library.custom_op("modelyard::product", mutates_args=())
def whole_product(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T of x [..., i] and W [o, i], not packed: one operation to torch.compile, which knows the private one with packed weights only."""
    return product(x, weight)


@whole_product.register_fake
def _shape_of_whole_product(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])
