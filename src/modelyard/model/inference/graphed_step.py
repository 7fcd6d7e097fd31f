"""A decoding step of a dense Llama on a GPU as one CUDA graph.

Launched one by one, the thousand kernels of a small model's step take the host ten times as long as the GPU. A graph launches them at once: it reads
the position from memory, and attention looks at a whole block of the cache behind a mask, so one graph serves every position of a block. With
``execution.compile`` the layer is compiled first, which fuses what lies between its products. Left out: tensor and pipeline parallelism, experts,
variants and learned positions, where the step stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modelyard.model.inference.block import Block, Product, Rotation, fusible_norm
from modelyard.model.training.engine import Engine

BLOCK = 256
"""Places of the cache that a graph's attention grows by: each multiple is captured once."""


class Layer(NamedTuple):
    """Weights and caches of one layer: keys [b * groups, d, L], values [b * groups, L, d]."""

    norms: tuple[Tensor, Tensor]
    qkv: Tensor
    projection: Tensor
    up: Tensor
    down: Tensor
    keys: Tensor
    values: Tensor


class Shape(NamedTuple):
    """What is fixed when a layer is compiled."""

    groups: int
    ratio: int
    width: int
    scale: float
    eps: float


class GraphedStep:
    """The step of ``batch`` sequences over caches that a prefill has begun; its graphs live as long as it does."""

    def __init__(
        self,
        engine: Engine,
        blocks: Sequence[Block],
        output: Product,
        rotation: Rotation,
        caches: Sequence[tuple[Tensor, Tensor]],
        begins: Tensor | None = None,
    ) -> None:
        """``begins`` [b]: see :class:`~modelyard.model.inference.decode.Decoder`."""
        first, gpt = blocks[0], engine.gpt
        self.length = caches[0][0].shape[2]
        self.shape = Shape(first.groups, first.ratio, first.width, first.scale or first.width**-0.5, engine.model.norm_eps)
        self.layers = [
            Layer(
                (b.norms[0].weight, b.norms[1].weight), b.qkv.weight, b.projection.product.weight, b.up.weight, b.down.product.weight, k, v
            )
            for b, (k, v) in zip(blocks, caches, strict=True)
        ]
        self.layer = _compiled() if engine.compile else _layer
        self.embedding, self.output = gpt.embedding.word_embeddings.weight, output.weight
        self.last_norm, self.vocabulary = gpt.decoder.final_layernorm.weight, engine.model.vocab_size
        self.factors = [factor.view(-1, factor.shape[-1]) for factor in rotation]
        self.tokens = torch.zeros(caches[0][0].shape[0] // first.groups, dtype=torch.long, device=engine.device)
        self.position = torch.zeros(1, dtype=torch.long, device=engine.device)
        self.begins = torch.zeros_like(self.tokens) if begins is None else begins
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    @staticmethod
    def fits(engine: Engine) -> bool:
        """Whether the step of this engine's model can be captured."""
        layout, model = engine.layout, engine.model
        return engine.device.type == "cuda" and layout.tp == layout.pp == 1 and model.is_plain

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
        with torch.cuda.graph(graph):
            logits = self._step(end)
        return graph, logits

    def _step(self, end: int) -> Tensor:
        places = torch.arange(end, device=self.position.device)
        unseen = ((places > self.position) | (places < self.begins[:, None])).repeat_interleave(self.shape.groups, 0)[:, None]
        mask = torch.zeros(unseen.shape, dtype=self.embedding.dtype, device=unseen.device).masked_fill_(unseen, float("-inf"))
        cos, sin = (factor.index_select(0, self.position - self.begins)[:, None, None] for factor in self.factors)
        hidden = F.embedding(self.tokens, self.embedding)
        for layer in self.layers:
            hidden = self.layer(self.shape, hidden, self.position, mask, cos, sin, layer)
        return F.linear(fusible_norm(hidden, self.last_norm, self.shape.eps), self.output)[:, : self.vocabulary].float()


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_layer)


def _layer(shape: Shape, hidden: Tensor, position: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, layer: Layer) -> Tensor:
    """One layer over hidden [b, h]: :meth:`Block.heads`, attention over the first places of the cache, :meth:`Block.finish`."""
    rows, groups, width, end = hidden.shape[0], shape.groups, shape.width, mask.shape[-1]
    fused = F.linear(fusible_norm(hidden, layer.norms[0], shape.eps), layer.qkv).view(rows, groups, shape.ratio + 2, width)
    turned = Rotation(cos, sin).turn(fused[:, :, : shape.ratio + 1])
    layer.keys.index_copy_(2, position, turned[:, :, shape.ratio].reshape(rows * groups, width, 1))
    layer.values.index_copy_(1, position, fused[:, :, shape.ratio + 1].reshape(rows * groups, 1, width))
    query = turned[:, :, : shape.ratio].reshape(rows * groups, shape.ratio, width)
    scores = torch.baddbmm(mask, query, layer.keys[:, :, :end], alpha=shape.scale)
    context = torch.bmm(torch.softmax(scores, -1), layer.values[:, :end]).view(rows, -1)
    hidden = hidden + F.linear(context, layer.projection)
    gate, up = F.linear(fusible_norm(hidden, layer.norms[1], shape.eps), layer.up).chunk(2, -1)
    return hidden + F.linear(F.silu(gate) * up, layer.down)
