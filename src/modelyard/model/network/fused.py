"""Operations of the transformer with backward passes written by hand, where torch's own make several passes over memory.

:func:`label_logprobs` is output layer and cross-entropy in one, in pieces that stay in the cache, so the fp32 logits of a micro-batch never exist at
once (the idea of Wijmans et al. 2024, "Cut your losses", without its kernels). :func:`rotary` is Su et al. 2021's in the half-split form of GPT-NeoX
and Llama. Plain torch, on every device. Left out: SwiGLU and norms, where this gained nothing over torch's own (docs/decisions.md).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from modelyard.model.network import logit_passes, onednn, weight_gradients
from modelyard.model.network.logit_passes import Label

KEPT_BYTES = {"cpu": 1 << 31, "cuda": 1 << 32}
"""Logits (or probabilities) up to this size, in the model's precision, are kept for the backward pass; larger
ones are computed again.
"""
PIECE_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 30}
"""Logits of one piece: on a CPU 8 MiB in fp32, which stay in its cache; on a GPU enough to fill it."""


def label_logprobs(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    vocab_size: int,
    group: Any | None,
    total: Tensor | None = None,
    shared: bool = False,
) -> Tensor:
    """log p(label) [T] in fp32 from hidden states [T, h], this rank's rows of the output layer [V / tp, h] and labels [T] (int64).

    ``group`` holds the tensor-parallel ranks (None: one). Rows from ``vocab_size`` on are padding and have no probability. The gradient of
    ``hidden`` is this rank's part of a sum over ``group``; that of ``weight`` is added to ``total`` where it is given, and autograd
    gets none of it where ``shared`` says that the weight has another gradient besides.
    """
    return _LabelLogprobs.apply(hidden, weight, labels, vocab_size, group, total, shared)


class _LabelLogprobs(torch.autograd.Function):
    """The vocabulary goes by in blocks of columns; their normalisers are merged as those of tensor-parallel ranks are."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        vocab_size: int,
        group: Any | None,
        total: Tensor | None,
        shared: bool,
    ) -> Tensor:
        ctx.total, ctx.shared = total, shared  # not saved by autograd, which would not have it change before the backward pass
        rows, offset, device = hidden.shape[0], 0 if group is None else dist.get_rank(group) * weight.shape[0], hidden.device.type
        ctx.real, ctx.own = min(max(vocab_size - offset, 0), weight.shape[0]), labels - offset
        keep = any(ctx.needs_input_grad[:2]) and rows * ctx.real * hidden.element_size() <= KEPT_BYTES[device]
        ctx.kept = [] if keep else None
        target = torch.zeros(rows, dtype=torch.float32, device=hidden.device)
        normalisers = []
        for block in _blocks(rows, ctx.real, device):
            found = logit_passes.normalised(product(hidden, weight[block]), Label.of(ctx.own, block))
            target += found.at_label
            normalisers.append(found.normaliser)
            if keep:
                ctx.kept.append(found.kept)
        whole = torch.logsumexp(torch.stack(normalisers), 0) if normalisers else torch.full_like(target, float("-inf"))
        if group is not None:
            most = whole.clone()
            dist.all_reduce(most, dist.ReduceOp.MAX, group=group)
            sums = torch.stack([(whole - most).exp(), target])
            dist.all_reduce(sums, group=group)
            whole, target = sums[0].log() + most, sums[1]
        logprobs = target - whole
        ctx.save_for_backward(hidden, weight, logprobs, whole, *normalisers)
        return logprobs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, logprobs, whole, *normalisers = ctx.saved_tensors
        kept, ctx.kept = ctx.kept, None  # overwritten below: a second backward pass computes it again
        wide, grad_hidden = onednn.computed(hidden), torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        learns = ctx.needs_input_grad[1]
        grad_weight = torch.zeros_like(weight, dtype=wide.dtype) if learns and ctx.total is None else None
        for number, block in enumerate(_blocks(len(hidden), ctx.real, hidden.device.type)):
            label = Label.of(ctx.own, block)
            known = kept[number] if kept is not None else logit_passes.normalised(product(hidden, weight[block]), label).kept
            slope = onednn.computed(logit_passes.slope(known, normalisers[number], whole, logprobs, grad, label))
            if grad_weight is not None:
                torch.mm(slope.t(), wide, out=grad_weight[block])
            elif learns:
                weight_gradients.add(ctx.total[block], slope, wide)
            grad_hidden += product(slope, weight[block].t())
        if grad_weight is None:
            given = weight_gradients.unread(weight) if learns and not ctx.shared else None
        else:
            given = grad_weight.to(weight.dtype)
        return grad_hidden.to(hidden.dtype), given, None, None, None, None, None


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T of x [T, i] and W [o, i] without gradient; in fp32 on a CPU oneDNN's, which takes 0.85 to 0.95 of the time of torch's own."""
    wide, weight = onednn.computed(x), onednn.computed(weight)
    if wide.dtype == torch.float32 and onednn.multiplies(wide):
        return onednn.whole_product(wide, weight).to(x.dtype)
    return (wide @ weight.t()).to(x.dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, total: Tensor | None = None) -> Tensor:
    """x W^T + b with gradients, of x [..., i], W [o, i] and b [o]; that of W is added to ``total`` where it is given."""
    output: Tensor = _Linear.apply(x, weight, total)
    return output if bias is None else output + bias


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, total: Tensor | None) -> Tensor:
        ctx.total = total
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return product(x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        flat = onednn.computed(grad.reshape(-1, grad.shape[-1]))
        grad_x = product(flat, weight.t()).view(*grad.shape[:-1], weight.shape[1]).to(grad.dtype) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None
        inputs = x.reshape(-1, x.shape[-1])
        if ctx.total is None:
            return grad_x, (flat.t() @ onednn.computed(inputs)).to(weight.dtype), None
        weight_gradients.add(ctx.total, flat, inputs)
        return grad_x, weight_gradients.unread(weight), None


def _blocks(rows: int, columns: int, device: str) -> list[slice]:
    """Columns in equal pieces of at most :data:`PIECE_ELEMENTS` with ``rows`` rows."""
    most = max(1, PIECE_ELEMENTS[device] // max(1, rows))
    size = most if device == "cpu" or most >= columns else -(-columns // -(-columns // most))
    return [slice(start, min(start + size, columns)) for start in range(0, columns, size)]


def rotary_factors(angles: Tensor, dtype: torch.dtype, amplitude: float = 1.0) -> Tensor:
    """Factors [2, ..., d] of :func:`rotary` from angles [..., d] whose halves are alike: the cosine, and the
    sine with its first half negated, both times ``amplitude``.
    """
    sin = angles.sin()
    half = angles.shape[-1] // 2
    return (torch.stack((angles.cos(), torch.cat((-sin[..., :half], sin[..., half:]), -1))) * amplitude).to(dtype)


def rotary(x: Tensor, factors: Tensor, interleaved: bool = False) -> Tensor:
    """Rotate queries or keys x [s, b, heads, d] by :func:`rotary_factors` [2, s, 1 or b, 1, d];
    megatron-core's fused signature.
    """
    assert not interleaved, "only the half-split form"
    assert factors.shape[-1] == x.shape[-1], "rotary positions on part of a head are not supported"
    return _Rotary.apply(x, factors[0], factors[1])


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return (grad * cos).addcmul_(grad.roll(grad.shape[-1] // 2, -1), sin, value=-1), None, None
