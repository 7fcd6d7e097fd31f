"""A layer's experts in a decoding step that is one CUDA graph: every expert computes every row, and rows count where they were sent.

The layer of training (:mod:`modelyard.model.network.experts`) asks the host how many rows each expert has, and a graph can ask nothing; on GPUs
before Hopper, and in fp32, torch's grouped product asks too. A step has few rows and is bound by reading weights: rows that together meet all experts
read them all either way, and by its data sheet an H100 (990 TFLOP/s in bf16, 3.35 TB/s) multiplies up to some 300 rows while it reads. Same sums as
the layer's but for their order. Not yet run on a GPU. Left out: experts that ranks share out, which exchange rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Experts(NamedTuple):
    """Weights of a layer's experts: of the router [E, h] in fp32, of the two products [E, o, h] and [E, h, i]."""

    router: Tensor
    up: Tensor
    down: Tensor

    @classmethod
    def of(cls, layer: Any) -> Experts:
        """Those of megatron-core's layer, with our experts in it."""
        own = layer.experts
        return cls(layer.router.weight.detach().float(), own.linear_fc1.weight.detach(), own.linear_fc2.weight.detach())


def gates(experts: Experts, x: Tensor, top_k: int) -> Tensor:
    """What each row of x [T, h] gives each expert's output [T, E] in fp32: a softmax over the chosen ones, of one over all; 0 for the rest."""
    logits = x.float() @ experts.router.t()
    if top_k == 1:
        shares, chosen = torch.topk(torch.softmax(logits, -1), 1)
    else:
        best, chosen = torch.topk(logits, top_k)
        shares = torch.softmax(best, -1)
    return logits.new_zeros(logits.shape).scatter(1, chosen, shares)


def output(experts: Experts, x: Tensor, top_k: int, gated: bool, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """The layer's output [T, h] of x [T, h]."""
    shares = gates(experts, x, top_k).t()[..., None]
    inner = torch.matmul(x, experts.up.transpose(1, 2))
    if gated:
        gate, up = inner.chunk(2, -1)
        inner = activation(gate) * up
    else:
        inner = activation(inner)
    # what no row was sent to may be infinite, and times 0 no number
    weighed = (inner * shares).masked_fill(shares == 0, 0.0).to(x.dtype)
    return torch.bmm(weighed, experts.down.transpose(1, 2)).sum(0)
