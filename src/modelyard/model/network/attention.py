"""Core attention on ``torch.nn.functional.scaled_dot_product_attention``, given to megatron-core through the layer spec.

megatron-core's own CPU path materialises the scores. This one does not, and takes grouped keys and values as they are. It knows one mask of its
own, the causal one, which the patches of an image do without; rows of several texts bring theirs, and on a CPU what it hides is left out
(:mod:`modelyard.model.network.masked_attention`). One case is better off with
its scores in memory: training in bf16 on a CPU at short lengths, where torch's flash kernel is slower than fp32 but matrix products are twice as
fast. Where a CPU has no bf16 instructions, training computes in fp32. A window (Mistral's) is a mask where a row is longer than it. With context
parallelism (:mod:`modelyard.model.network.context`) a piece of a row meets more keys than it has queries: on a GPU kernels know that causality
themselves, on a CPU it is a mask that every layer keeps until its backward pass. Left out: megatron-core's packed sequences (one row without
padding), and kernels of a GPU that skip what a mask or a window hides.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from modelyard.log import logger
from modelyard.model.network import context, onednn
from modelyard.model.network.masked_attention import PiecewiseAttention, pieces_of

_log = logger(__name__)
SHORT = 512
"""Up to this many tokens bf16 training on a CPU materialises its scores; at 1,024 the flash kernel is faster again (docs/benchmarks.md)."""


PREFERRED = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
"""Kernels on a GPU, the first that takes a call's shapes being chosen: on Hopper cuDNN's is faster than
torch's flash kernel.
"""


def preferred() -> AbstractContextManager[None]:
    """Within it attention is computed by the first fitting one of :data:`PREFERRED`; on a GPU the first rank says once which these are."""
    if torch.cuda.is_available() and torch.distributed.get_rank() == 0:
        _say_kernels()
    return sdpa_kernel(list(PREFERRED), set_priority=True)


@cache
def _say_kernels() -> None:
    cudnn = torch.backends.cudnn.version()
    names = [f"cuDNN {cudnn}" if one is SDPBackend.CUDNN_ATTENTION else one.name.removesuffix("_ATTENTION").lower() for one in PREFERRED]
    _log.warning("attention asks for the first kernel that takes its shapes: %s", ", ".join(names))


class SdpaAttention(torch.nn.Module):
    """Scaled dot-product attention over this tensor-parallel rank's heads."""

    def __init__(self, config: Any, layer_number: int, attn_mask_type: Any, attention_type: str, **unused: Any) -> None:
        from megatron.core.transformer.enums import AttnMaskType
        from megatron.core.transformer.utils import is_layer_window_attention

        super().__init__()
        self.causal = attn_mask_type != AttnMaskType.no_mask
        windowed = is_layer_window_attention(config.window_size, config.window_attn_skip_freq, layer_number)
        self.window: int | None = config.window_size[0] + 1 if windowed else None
        self.config = config
        self.attn_mask_type = attn_mask_type
        self.softmax_scale = unused.get("softmax_scale")
        self.dropout = config.attention_dropout
        self.group = None
        if config.context_parallel_size > 1:
            from megatron.core import parallel_state

            self.group = parallel_state.get_context_parallel_group()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        attn_mask_type: Any = None,
        attention_bias: Tensor | None = None,
        packed_seq_params: Any = None,
    ) -> Tensor:
        """Query [sq, b, heads, d], key and value [sq, b, groups, d] -> context [sq, b, heads * d].

        ``attention_mask`` [b, 1, sq, sk], or [b, 2, sq, sk] with what windows leave of it second (see ``batch.segmented``). With context
        parallelism sq are this rank's positions and sk all of them.
        """
        assert packed_seq_params is None, "packed sequences are not supported"
        assert attention_bias is None, "attention bias is not supported"
        if self.group is not None:
            return self._of_own_places(query, key, value, attention_mask)
        length, batch, heads, width = query.shape
        assert length == key.shape[0], f"{length} queries against {key.shape[0]} keys: steps of decoding are model.inference's"
        query, key, value = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        mask = layer_mask(attention_mask, self.window, batch, length, query.device)
        kept, learns = query.dtype, query.requires_grad and query.device.type == "cpu"
        if learns:  # bf16's flash kernel has a slow backward pass
            query, key, value = (onednn.computed(x) for x in (query, key, value))
        if learns and query.dtype == torch.bfloat16 and length <= SHORT and not self.dropout and self.causal:
            found = _MaterialisedAttention.apply(query, key, value, self.softmax_scale or width**-0.5, mask)
            return found.permute(2, 0, 1, 3).reshape(length, batch, heads * width)
        found = self._product(query, key, value, mask, is_causal=self.causal and mask is None and length > 1)
        return found.to(kept).permute(2, 0, 1, 3).reshape(length, batch, heads * width)

    def _product(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool = False) -> Tensor:
        """Query [b, heads, sq, d], key and value [b, groups, sk, d] -> context [b, heads, sq, d]."""
        drops = self.training and self.dropout > 0
        hides = type(mask) is Tensor and mask.device.type == "cpu" and not drops and not torch.compiler.is_compiling()
        if hides and (pieces := pieces_of(cast(Tensor, mask), query.dtype)):
            return cast(Tensor, PiecewiseAttention.apply(query, key, value, pieces, self.softmax_scale))
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=is_causal,
            dropout_p=self.dropout if drops else 0.0,
            scale=self.softmax_scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )

    def _of_own_places(self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None) -> Tensor:
        """The same of this context rank's positions; each of its two pieces sees keys up to its own end."""
        from torch.nn.attention.bias import causal_lower_right  # brings torch's compiler along, a second that others need not wait

        group, kept = self.group, query.dtype
        assert group is not None
        key, value = (context.gathered(x, group, apart=True).permute(1, 2, 0, 3) for x in (key, value))
        if query.requires_grad and query.device.type == "cpu":
            query, key, value = (onednn.computed(x) for x in (query, key, value))
        found = []
        for rows, start in context.pieces(len(query), group.size(), group.rank()):
            piece = query[rows].permute(1, 2, 0, 3)
            end = start + piece.shape[2]
            mask: Tensor
            if attention_mask is not None:
                mask = (attention_mask[:, -1:] if self.window else attention_mask[:, :1])[:, :, rows, :end]
            elif self.window:
                mask = causal_mask(start, end, self.window, query.device)
            else:
                mask = causal_lower_right(end - start, end)  # which kernels on a GPU know without a mask in memory
            found.append(self._product(piece, key[:, :, :end], value[:, :, :end], mask).permute(2, 0, 1, 3))
        return torch.cat(found).to(kept).flatten(2)


def layer_mask(mask: Tensor | None, window: int | None, batch: int, length: int, device: torch.device) -> Tensor | None:
    """Who sees whom in a layer [b, 1, s, s]; None: everybody whatever stands before.

    ``mask`` is that of all layers (None: each row is one text) as ``batch.segmented`` makes it. A token's window is itself and what stands
    before it, ``window`` tokens together.
    """
    if mask is not None:
        return mask if mask.shape[1] == 1 else mask[:, -1:] if window else mask[:, :1]
    if window is None or length <= window:
        return None
    return causal_mask(0, length, window, device).expand(batch, 1, -1, -1)


def causal_mask(start: int, end: int, window: int, device: torch.device) -> Tensor:
    """Whom the positions from ``start`` to ``end`` see of those before ``end`` [1, 1, end - start, end]: the last ``window`` of them."""
    places = torch.arange(end, device=device)
    own = places[start:, None]
    return ((own >= places) & (own < places + window))[None, None]


class _MaterialisedAttention(torch.autograd.Function):
    """Attention by batched matrix products; query [b, heads, s, d], key and value [b, groups, s, d], mask [b, 1, s, s] (None: causal)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None) -> Tensor:
        batch, heads, length, width = query.shape
        groups = key.shape[1]
        query = query.reshape(batch * groups, heads // groups * length, width)
        key, value = (x.reshape(batch * groups, length, width) for x in (key, value))
        if mask is None:
            unseen = torch.full((length, length), float("-inf"), dtype=query.dtype).triu_(1).repeat(heads // groups, 1)
        else:
            unseen = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, float("-inf"))
            unseen = unseen.expand(-1, heads, -1, -1).reshape(len(query), -1, length)
        weights = torch.softmax(torch.baddbmm(unseen, query, key.transpose(1, 2), alpha=scale), -1)
        ctx.save_for_backward(query, key, value, weights)
        ctx.scale = scale
        return torch.bmm(weights, value).view(batch, heads, length, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, weights = ctx.saved_tensors
        batch, heads, length, width = grad.shape
        grad = grad.reshape(query.shape)
        grad_weights = torch.bmm(grad, value.transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype).mul_(ctx.scale)
        grad_query = torch.bmm(grad_scores, key).view(batch, heads, length, width)
        grad_key = torch.bmm(grad_scores.transpose(1, 2), query).view(batch, -1, length, width)
        return grad_query, grad_key, torch.bmm(weights.transpose(1, 2), grad).view(batch, -1, length, width), None, None
