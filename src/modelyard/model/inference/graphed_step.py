"""A decoding step on a GPU as one CUDA graph.

Launched one by one, the thousand kernels of a small model's step take the host ten times as long as the GPU. A graph launches them at once: it reads
the position from memory, and attention looks at a whole block of the cache behind a mask, so one graph serves every position of a block. With
``execution.compile`` the layer is compiled first, which fuses what lies between its products. Every model's step is captured, whatever its
style and variant, experts by :mod:`~modelyard.model.inference.step_experts`, and under tensor parallelism with its sums over ranks, which a graph may
hold: each rank captures at the same position and replays at the same steps. Left out: pipeline parallelism and experts that ranks share out, whose
messages the host waits for; there the step stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from modelyard.model.inference import step_experts
from modelyard.model.inference.block import Block, Rotation, scaled
from modelyard.model.inference.product import Product
from modelyard.model.inference.step_experts import Experts
from modelyard.model.network.modules import ZeroCentredNorm
from modelyard.model.training.engine import Engine

BLOCK = 256
"""Places of the cache that a graph's attention grows by: each multiple is captured once."""


class Norm(NamedTuple):
    """An RMSNorm, or with a bias a LayerNorm."""

    weight: Tensor
    bias: Tensor | None
    eps: float

    @classmethod
    def of(cls, module: Any) -> Norm:
        """The same function as a module of the network's."""
        weight = 1.0 + module.weight.detach().float() if isinstance(module, ZeroCentredNorm) else module.weight
        return cls(weight, getattr(module, "bias", None), module.eps)


class Linear(NamedTuple):
    """x W^T + b."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, product: Product, bias: Tensor | None = None) -> Linear:
        """The same product; ``bias`` is added behind the sum over ranks, where the product has none itself."""
        return cls(product.weight, product.bias if bias is None else bias.detach())


class FeedForward(NamedTuple):
    """The two products of a dense layer."""

    up: Linear
    down: Linear


class Layer(NamedTuple):
    """Weights and caches of one layer: keys [b * groups, d, L], values [b * groups, L, d]; ``inner`` is what follows attention."""

    norms: tuple[Norm, Norm]
    head_norms: tuple[Norm, Norm] | None
    qkv: Linear
    projection: Linear
    inner: FeedForward | Experts
    keys: Tensor
    values: Tensor

    @classmethod
    def of(cls, block: Block, keys: Tensor, values: Tensor) -> Layer:
        """The layer that ``block`` computes."""
        qkv, projection = Linear.of(block.qkv), Linear.of(block.projection.product, block.projection.bias)
        inner: FeedForward | Experts
        if block.experts is None:
            inner = FeedForward(Linear.of(block.up), Linear.of(block.down.product, block.down.bias))
        else:
            inner = Experts.of(block.experts)
        head_norms = None if block.head_norms is None else (Norm.of(block.head_norms[0]), Norm.of(block.head_norms[1]))
        return cls((Norm.of(block.norms[0]), Norm.of(block.norms[1])), head_norms, qkv, projection, inner, keys, values)


class Shape(NamedTuple):
    """What is fixed when a layer is compiled."""

    groups: int
    ratio: int
    width: int
    scale: float
    gated: bool
    activation: Callable[[Tensor], Tensor]
    top_k: int
    """Experts of a row; 0 in a dense layer."""
    group: Any | None
    """Tensor-parallel ranks; None: one."""

    @classmethod
    def of(cls, block: Block) -> Shape:
        """That of the layer that ``block`` computes."""
        top_k = 0 if block.experts is None else block.experts.router.topk
        return cls(
            block.groups, block.ratio, block.width, block.scale or block.width**-0.5, block.gated, block.activation, top_k, block.tp_group
        )


class GraphedStep:
    """The step of ``batch`` sequences over caches that a prefill has begun; its graphs live as long as it does."""

    def __init__(
        self,
        engine: Engine,
        blocks: Sequence[Block],
        output: Product,
        rotation: Rotation | None,
        caches: Sequence[tuple[Tensor, Tensor]],
        begins: Tensor | None = None,
    ) -> None:
        """``begins`` [b]: see :class:`~modelyard.model.inference.decode.Decoder`."""
        self.gpt, self.blocks, self.output = engine.gpt, blocks, Linear.of(output)
        self.length, self.groups = caches[0][0].shape[2], blocks[0].groups
        self.layers = [(Shape.of(block), Layer.of(block, *cache)) for block, cache in zip(blocks, caches, strict=True)]
        self.layer = _compiled() if engine.compile else _layer
        self.last_norm, self.vocabulary = Norm.of(self.gpt.decoder.final_layernorm), engine.model.vocab_size
        self.factors = [] if rotation is None else [factor.view(-1, factor.shape[-1]) for factor in rotation]
        self.tokens = torch.zeros(caches[0][0].shape[0] // self.groups, dtype=torch.long, device=engine.device)
        self.position = torch.zeros(1, dtype=torch.long, device=engine.device)
        self.begins = torch.zeros_like(self.tokens) if begins is None else begins
        self.group, self.ranks, self.rank = blocks[0].tp_group, engine.layout.tp, engine.layout.tp_rank
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    @staticmethod
    def fits(engine: Engine) -> bool:
        """Whether the step of this engine's model can be captured."""
        layout = engine.layout
        return engine.device.type == "cuda" and layout.pp == layout.ep == 1

    def __call__(self, tokens: Tensor, position: int) -> Tensor:
        """Logits [b, V] in fp32 after tokens [b] at ``position``, in memory that the next step overwrites."""
        self.tokens.copy_(tokens)
        self.position.fill_(position)
        end = min(self.length, position + BLOCK - position % BLOCK)
        if end not in self.graphs:
            self.graphs[end] = self._capture(end)
        graph, logits = self.graphs[end]
        graph.replay()
        return logits

    def _capture(self, end: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):  # libraries and the compiler get ready outside of a graph; writing a place twice changes nothing
            for _ in range(2):
                self._step(end)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # a checkpoint's thread may wait for an event meanwhile
            logits = self._step(end)
        return graph, logits

    def _step(self, end: int) -> Tensor:
        hidden = self._embedded()
        rotation = (
            Rotation(*(factor.index_select(0, self.position - self.begins)[:, None, None] for factor in self.factors))
            if self.factors
            else None
        )
        masks: dict[int | None, Tensor] = {}
        for block, (shape, layer) in zip(self.blocks, self.layers, strict=True):
            if block.window not in masks:
                masks[block.window] = self._mask(end, block.window)
            turn = rotation if block.rotates else None
            hidden = self.layer(shape, hidden, self.position, masks[block.window], turn, layer)
        return self._gathered(F.linear(_normed(self.last_norm, hidden), *self.output))[:, : self.vocabulary].float()

    def _gathered(self, logits: Tensor) -> Tensor:
        """Logits [b, V] of the vocabularies [b, V / tp] of all tensor-parallel ranks."""
        if self.group is None:
            return logits
        parts = [torch.empty_like(logits) for _ in range(self.ranks)]
        dist.all_gather(parts, logits, group=self.group)
        return torch.cat(parts, -1)

    def _words(self) -> Tensor:
        """Embeddings [b, h], each from the rank that has it (megatron-core's module asks by a mask, for whose answer the host would wait)."""
        weight = self.gpt.embedding.word_embeddings.weight
        if self.group is None:
            return F.embedding(self.tokens, weight)
        own = self.tokens - self.rank * len(weight)
        inside = (own >= 0) & (own < len(weight))
        found = F.embedding(own.clamp(0, len(weight) - 1), weight).masked_fill(~inside[:, None], 0.0)
        return _summed(found, self.group)

    def _embedded(self) -> Tensor:
        embedding = self.gpt.embedding
        hidden = scaled(self.gpt, self._words())
        if embedding.add_position_embedding:
            hidden = hidden + F.embedding(self.position - self.begins, embedding.position_embeddings.weight)
        return hidden

    def _mask(self, end: int, window: int | None) -> Tensor:
        """What to add to scores [b * groups, r, end] of the places that no query of this step sees."""
        places = torch.arange(end, device=self.position.device)
        unseen = (places > self.position) | (places < self.begins[:, None])
        if window is not None:
            unseen |= places <= self.position - window
        unseen = unseen.repeat_interleave(self.groups, 0)[:, None]
        return torch.zeros(unseen.shape, dtype=self.output.weight.dtype, device=unseen.device).masked_fill_(unseen, float("-inf"))


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_layer, fullgraph=True)


def _layer(shape: Shape, hidden: Tensor, position: Tensor, mask: Tensor, rotation: Rotation | None, layer: Layer) -> Tensor:
    """One layer over hidden [b, h]: :meth:`Block.heads`, attention over the first places of the cache, :meth:`Block.finish`."""
    rows, groups, ratio, width, end = hidden.shape[0], shape.groups, shape.ratio, shape.width, mask.shape[-1]
    fused = F.linear(_normed(layer.norms[0], hidden), *layer.qkv).view(rows, groups, ratio + 2, width)
    turned = fused[:, :, : ratio + 1]
    if layer.head_norms is not None:
        of_queries, of_keys = layer.head_norms
        turned = torch.cat((_normed(of_queries, turned[:, :, :ratio]), _normed(of_keys, turned[:, :, ratio:])), 2)
    if rotation is not None:
        turned = rotation.turn(turned)
    layer.keys.index_copy_(2, position, turned[:, :, ratio].reshape(rows * groups, width, 1))
    layer.values.index_copy_(1, position, fused[:, :, ratio + 1].reshape(rows * groups, 1, width))
    query = turned[:, :, :ratio].reshape(rows * groups, ratio, width)
    scores = torch.baddbmm(mask, query, layer.keys[:, :, :end], alpha=shape.scale)
    context = torch.bmm(torch.softmax(scores, -1), layer.values[:, :end]).view(rows, -1)
    hidden = hidden + _row_parallel(context, layer.projection, shape.group)
    normed = _normed(layer.norms[1], hidden)
    if isinstance(layer.inner, Experts):
        return hidden + step_experts.output(layer.inner, normed, shape.top_k, shape.gated, shape.activation)
    inner = F.linear(normed, *layer.inner.up)
    if shape.gated:
        gate, up = inner.chunk(2, -1)
        inner = shape.activation(gate) * up
    else:
        inner = shape.activation(inner)
    return hidden + _row_parallel(inner, layer.inner.down, shape.group)


def _row_parallel(x: Tensor, linear: Linear, group: Any | None) -> Tensor:
    """x W^T + b of this rank's part of x and W, summed over ``group`` before the bias is added."""
    if group is None:
        return F.linear(x, *linear)
    output = _summed(F.linear(x, linear.weight), group)
    return output if linear.bias is None else output + linear.bias


def _summed(x: Tensor, group: Any) -> Tensor:
    """The sum over ``group``, in place."""
    dist.all_reduce(x, group=group)
    return x


def _normed(norm: Norm, x: Tensor) -> Tensor:
    """The norm of x [..., h] in its dtype; one kernel."""
    given = x.to(norm.weight.dtype)
    if norm.bias is not None:
        return F.layer_norm(given, x.shape[-1:], norm.weight, norm.bias, norm.eps)
    return F.rms_norm(given, x.shape[-1:], norm.weight, norm.eps).to(x.dtype)
