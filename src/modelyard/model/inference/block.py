"""A transformer layer for inference, over the weights of megatron-core's, without its Python around every operation.

:mod:`~modelyard.model.inference.decode` and :mod:`~modelyard.model.inference.score` differ in what a token may see; what a layer does before and
after attention is here once. Batch first. Norms and experts are the modules themselves, and adapters are merged into the weights. Left out:
gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from modelyard.model.inference.product import Product, RowParallel, SiluGate
from modelyard.model.network import fused, onednn, parallel
from modelyard.model.network.lora import weight_of
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.network.modules import ZeroCentredNorm

GPU_TOKENS = 16_384
INNER_BYTES, FEWEST_BYTES = 3 << 20, 1024
"""Of the widest activations of a feed-forward block, and of one number of each of the fewest tokens: 256 in fp32, 512 in bf16."""


class Rotation(NamedTuple):
    """Rotary positions as two factors, each broadcast to [..., d]: x cos + roll(x, d / 2) sin, the sine's first half negated."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, gpt: Any, angles: Tensor, dtype: torch.dtype) -> Rotation:
        """Of a ``LanguageModel``'s angles, both halves alike."""
        return cls(*fused.rotary_factors(angles, dtype, gpt.amplitude))

    def turn(self, x: Tensor) -> Tensor:
        """Rotated [..., d]."""
        return (x * self.cos).addcmul_(x.roll(x.shape[-1] // 2, -1), self.sin)


class Block:
    """One layer of this rank; ``rows``: about how many rows its products will see.

    ``products``: the dtype that who reads many rows at once computes them in, and all that lies between the products of a layer, while the states
    that layers add to keep theirs; absent: the weights' own, for steps of decoding.
    """

    def __init__(self, layer: Any, rows: int, tp_group: Any | None = None, products: torch.dtype | None = None) -> None:
        attention, mlp = layer.self_attention, layer.mlp
        self.groups, self.width = attention.num_query_groups_per_partition, attention.hidden_size_per_attention_head
        self.ratio = attention.linear_proj.weight.shape[1] // self.width // self.groups
        self.scale, self.window = attention.core_attention.softmax_scale, attention.core_attention.window
        config = layer.config
        self.gated, self.activation, self.tp_group = config.gated_linear_unit, config.activation_func, tp_group
        self.norms = layer.input_layernorm, layer.pre_mlp_layernorm
        self.head_norms = (attention.q_layernorm, attention.k_layernorm) if config.qk_layernorm else None
        self.rotates = not (config.no_rope_freq and config.no_rope_freq[layer.layer_number - 1])
        self.experts = None if hasattr(mlp, "linear_fc1") else mlp
        qkv = attention.linear_qkv
        native = products is not None and onednn.product_dtype(products, qkv.weight.device) == products
        self.between = products if native else None
        """The dtype between products; None: that of the states."""
        own = (
            _rows_with_own_key(config, self.width, tp_group)
            if config.num_query_groups < config.tensor_model_parallel_size
            else _as_they_are
        )
        self.qkv = Product(own(weight_of(qkv)), None if qkv.bias is None else own(qkv.bias), rows, products)
        self.projection = RowParallel(attention.linear_proj, rows, tp_group, products)
        if self.experts is None:
            first = mlp.linear_fc1
            self.gate: SiluGate | None = None
            if self.between is not None and SiluGate.fits(self.activation, self.gated, first.weight, self.between, rows):
                self.gate = SiluGate(first, rows, self.between)
            else:
                self.up = Product(weight_of(first), first.bias, rows, products)
            self.down = RowParallel(mlp.linear_fc2, rows, tp_group, products)

    def heads(self, hidden: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor]:
        """Hidden [b, n, h] -> a group's r queries and its key, rotated [b, n, groups, r + 1, d], and its value [b, n, groups, d]."""
        batch, count, _ = hidden.shape
        qkv = self.qkv(norm(self.norms[0], hidden, self.between)).view(batch, count, self.groups, self.ratio + 2, self.width)
        turned, value = qkv[..., : self.ratio + 1, :], qkv[..., self.ratio + 1, :]
        if self.head_norms is not None:
            of_queries, of_keys = self.head_norms
            turned = torch.cat((norm(of_queries, turned[..., : self.ratio, :]), norm(of_keys, turned[..., self.ratio :, :])), -2)
        return rotation.turn(turned) if rotation is not None and self.rotates else turned, value

    def finish(self, hidden: Tensor, context: Tensor) -> Tensor:
        """Hidden states [..., h] (overwritten) and their attention's context [..., heads * d] -> the layer's output [..., h]."""
        hidden += self.projection(context)
        if self.experts is not None:
            normed = norm(self.norms[1], hidden)
            output, _ = self.experts(normed.reshape(-1, 1, normed.shape[-1]))  # tokens are routed one by one: their order is free
            hidden += output.view_as(hidden)
            return hidden
        hidden += self.down(self._inner(norm(self.norms[1], hidden, self.between)))
        return hidden

    def _inner(self, normed: Tensor) -> Tensor:
        """[..., h] -> the feed-forward block's inner activations [..., f]."""
        if self.gate is not None:
            return self.gate(normed)
        inner = self.up(normed)
        if not self.gated:
            return self.activation(inner)
        gate, up = inner.chunk(2, -1)
        return self.activation(gate).mul_(up)


def _as_they_are(rows: Tensor) -> Tensor:
    return rows


def _rows_with_own_key(config: Any, width: int, tp_group: Any) -> Callable[[Tensor], Tensor]:
    """Where tensor-parallel ranks share a key head: from a rank's equal share of the fused rows [n, ...] those of its queries and of the key and
    value they meet, so that a step of decoding gathers nothing. Every rank of the group calls it."""
    ranks, rank = dist.get_world_size(tp_group), dist.get_rank(tp_group)
    groups, heads = config.num_query_groups, config.num_attention_heads
    group, part = divmod(rank, ranks // groups)
    queries, own = heads // groups * width, heads // ranks * width

    def taken(share: Tensor) -> Tensor:
        shares = [torch.empty_like(share) for _ in range(ranks)]
        dist.all_gather(shares, share.detach().contiguous(), group=tp_group)
        fused = torch.cat(shares).unflatten(0, (groups, -1))[group]
        return torch.cat([fused[part * own : (part + 1) * own], fused[queries:]])

    return taken


def norm(module: Any, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The module's norm of x [..., h], in x's dtype or ``dtype``; torch's RMSNorm runs seven kernels on a CPU, these are five."""
    dtype, weight = dtype or x.dtype, module.weight
    if not isinstance(module, torch.nn.RMSNorm):
        return F.layer_norm(x, module.normalized_shape, weight.to(x.dtype), module.bias.to(x.dtype), module.eps).to(dtype)
    wide = x.float()
    scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().mul_(1 / x.shape[-1]).add_(module.eps).rsqrt_()
    if isinstance(module, ZeroCentredNorm):
        return (wide * scale * (1.0 + weight.float())).to(dtype)
    return (wide * scale).to(dtype) * weight.to(dtype)


def scaled(gpt: Any, hidden: Tensor) -> Tensor:
    """Embeddings times the model's factor, if it has one."""
    return hidden if gpt.embedding_scale is None else hidden * gpt.embedding_scale


def tokens_at_once(model: ModelConfig, dtype: torch.dtype) -> int:
    """Tokens whose activations in ``dtype`` stay in a CPU's cache while a layer computes them, but enough to be worth reading its weights.

    SmolLM2-135M reads 6.4 ARC-easy items a CPU second 256 tokens at a time in fp32, 3.9 at 2,048; in bf16, of half the size and eight times as
    fast, 27.6, 30.8 and 29.4 at 256, 512 and 1,024.
    """
    if parallel.device().type == "cuda":
        return GPU_TOKENS
    size = torch.finfo(dtype).bits // 8
    return max(FEWEST_BYTES // size, INNER_BYTES // (2 * model.ffn_hidden * size))
