"""oneDNN's matrix products on a CPU, where they are faster than torch's own (docs/benchmarks.md).

By two private operators that torch's compiler uses for the same purpose; everything that knows of them is here. Left out: gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor


def multiplies(tensor: Tensor) -> bool:
    """Whether products of ``tensor`` can be oneDNN's: on a CPU that it has kernels for, in fp32 or bf16."""
    if tensor.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return tensor.dtype == torch.float32 or (tensor.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def packed(weight: Tensor, rows: int) -> Tensor:
    """W [o, i] laid out for products with about ``rows`` rows."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b of x [..., i] and W [o, i], packed or not."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
