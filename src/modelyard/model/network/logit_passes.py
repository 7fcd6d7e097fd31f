"""What lies between the two products of the output layer's loss: passes over one block of logits, as few as
the device allows.

On a CPU softmax is one fast kernel, so it is what the backward pass gets. On a GPU every pass over [tokens,
vocabulary] costs memory traffic (torch's own functions read and write about 45 bytes an element), so the
logits themselves are kept and two functions that torch.compile fuses read them once each: about 10 bytes an
element. Both give the same numbers but for rounding. Left out: the products
(:mod:`modelyard.model.network.fused`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Label(NamedTuple):
    """Where each label stands in a block of columns."""

    column: Tensor
    """[t, 1], 0 where the label is in another block."""
    here: Tensor
    """[t], whether it is in this one."""

    @classmethod
    def of(cls, labels: Tensor, block: slice) -> Label:
        """Of labels [t] in the columns of ``block``."""
        here = (labels >= block.start) & (labels < block.stop)
        return cls((labels - block.start).where(here, 0)[:, None], here)


class Normalised(NamedTuple):
    """A block of logits [t, c] as the backward pass wants it, and per row log-sum-exp and the label's logit
    (0: not here), fp32 [t].
    """

    kept: Tensor
    normaliser: Tensor
    at_label: Tensor


def normalised(logits: Tensor, label: Label) -> Normalised:
    """Log-sum-exp and label's logit of logits [t, c] in the model's precision."""
    if logits.device.type != "cpu":
        return Normalised(logits, *_compiled(_normalise)(logits, *label))
    # log-sum-exp = max x - log max softmax: the largest entry of a softmax is never too small for a logarithm
    wide = logits.float()
    softmax = torch.softmax(wide, -1)
    normaliser = wide.amax(-1) - softmax.amax(-1).log()
    return Normalised(softmax.to(logits.dtype), normaliser, wide.gather(1, label.column).squeeze(1).where(label.here, 0.0))


def slope(kept: Tensor, normaliser: Tensor, whole: Tensor, logprobs: Tensor, grad: Tensor, label: Label) -> Tensor:
    """d loss / d logits [t, c], in place of :attr:`Normalised.kept`; ``whole``: log-sum-exp over all blocks
    and ranks.

    d log p(label) / d logits = onehot(label) - softmax; at the label from log p in fp32, where 1 - p would
    lose a confident token's gradient.
    """
    if kept.device.type != "cpu":
        return _compiled(_slope)(kept, whole, logprobs, grad, *label)
    at_label = (-grad * torch.expm1(logprobs)).to(kept.dtype)[:, None]
    kept.mul_((-grad * (normaliser - whole).exp()).to(kept.dtype)[:, None])  # one dtype: mixed ones cost three more passes
    return kept.scatter_(1, label.column, at_label.where(label.here[:, None], kept.gather(1, label.column)))


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function)


def _normalise(logits: Tensor, column: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
    return logits.float().logsumexp(-1), logits.gather(1, column).squeeze(1).float().where(here, 0.0)


def _slope(logits: Tensor, whole: Tensor, logprobs: Tensor, grad: Tensor, column: Tensor, here: Tensor) -> Tensor:
    softmax = (logits.float() - whole[:, None]).exp()
    at_label = (torch.arange(logits.shape[1], device=logits.device) == column) & here[:, None]
    return logits.copy_(-grad[:, None] * torch.where(at_label, torch.expm1(logprobs)[:, None], softmax))
