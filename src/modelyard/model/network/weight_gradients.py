"""Weight gradients added in fp32 to the sum over micro-batches, inside the product that makes them.

megatron-core's DDP keeps that sum in ``weight.main_grad`` and adds to it what autograd hands over: of a bf16 weight a
gradient rounded to bf16, written and read once more than needed. megatron-core's cure is a kernel of Apex's; here torch's own
product adds: on a GPU cuBLAS takes bf16 factors and an fp32 sum. On a CPU the product comes first, rounded only where its own bf16
instructions compute it. Each expert of a layer adds the product of its own rows. Autograd gets a tensor that nobody reads, since DDP's
hooks want one. Left out: embeddings, whose gradients are no plain product, and adapters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from modelyard.model.network import onednn


def sum_of(weight: Tensor) -> Tensor | None:
    """Where the gradients of a weight are summed [o, i]; None where no optimizer trains it through DDP."""
    return getattr(weight, "main_grad", None)


def add(total: Tensor, grad: Tensor, x: Tensor) -> None:
    """Add grad^T x to ``total`` [o, i], of the gradient of a product's outputs, grad [T, o], and its inputs x [T, i]."""
    if torch.compiler.is_compiling():
        _compiled_add(total, grad, x)
    else:
        _add(total, grad, x)


def _add(total: Tensor, grad: Tensor, x: Tensor) -> None:
    if total.device.type == "cpu":  # in fp32 what autograd and DDP make, to the bit
        total += onednn.computed(grad).t() @ onednn.computed(x)
    elif total.dtype == x.dtype:
        total.addmm_(grad.t(), x)
    else:
        torch.addmm(total, grad.t(), x, out_dtype=total.dtype, out=total)


_compiled_add = torch.library.custom_op("modelyard::add_weight_gradient", _add, mutates_args=("total",))


@_compiled_add.register_fake
def _changes_the_sum_alone(total: Tensor, grad: Tensor, x: Tensor) -> None:
    pass


def unread(weight: Tensor) -> Tensor:
    """What autograd is given for a weight whose gradient has been added: memory that nobody fills or reads."""
    return torch.empty_like(weight)


def expect(weights: list[torch.nn.Parameter]) -> None:
    """Tell DDP's hooks, once a step, that these weights' gradients are added to their sums without them."""
    for weight in weights:
        weight.grad_added_to_main_grad = True  # type: ignore[attr-defined]


class _Kernel:
    """Apex's module of kernels, as megatron-core's linear layers call it."""

    @staticmethod
    def wgrad_gemm_accum_fp32(x: Tensor, grad: Tensor, total: Tensor) -> None:
        """Add grad^T x to ``total``."""
        add(total, grad, x)


def install() -> None:
    """Put :func:`add` where megatron-core looks for Apex's kernel, which its products with communication woven in call."""
    from megatron.core.tensor_parallel import layers

    module: Any = layers
    module.fused_weight_gradient_mlp_cuda, module._grad_accum_fusion_available = _Kernel, True
