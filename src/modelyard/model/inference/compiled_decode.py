"""A decoding step of a dense Llama on a CPU as one compiled function (``execution.compile``).

What :class:`modelyard.model.inference.decode.Decoder` does for one token in some hundred and fifty calls of torch, this does in one, with all
that lies between the products fused; docs/benchmarks.md has what that gives. One compilation serves every model of a shape and every position.
Left out: tensor and pipeline parallelism, experts, variants and GPUs, where the step stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modelyard.model.inference.block import Block, Rotation
from modelyard.model.inference.product import Product
from modelyard.model.network import onednn
from modelyard.model.training.engine import Engine

ROUND = 64
"""Cache lengths are multiples of it: every other length would be compiled anew."""


class Shape(NamedTuple):
    """What is fixed when a step is compiled; widths in elements."""

    rows: int
    layers: int
    hidden: int
    inner: int
    groups: int
    ratio: int
    width: int
    vocab: int
    eps: float


class CompiledStep:
    """The layers' and the output layer's weights, laid out for :func:`_step`."""

    def __init__(self, engine: Engine, blocks: Sequence[Block], output: Product, rows: int) -> None:
        model, first = engine.model, blocks[0]
        products = [product for block in blocks for product in (block.qkv, block.projection.product, block.up, block.down.product)]
        numbered = dict(enumerate((*products, output)))
        self.packed = onednn.PackedWeights({i: product.packed for i, product in numbered.items() if product.packed is not None})
        self.plain = {i: product.weight for i, product in numbered.items() if product.packed is None}
        norms = [norm.weight for block in blocks for norm in block.norms]
        self.norms = torch.stack([*norms, engine.gpt.decoder.final_layernorm.weight]).detach().to(output.weight.dtype)
        self.embedding = engine.gpt.embedding.word_embeddings.weight
        # its slices tell the compiler how far attention looks, which it must not take for a constant
        self.seen = torch.empty(model.seq_len)
        self.first = torch.zeros(rows, dtype=torch.long)
        self.rows, inner = rows, first.up.weight.shape[0] // 2
        shape = (rows, model.layers, model.hidden, inner, first.groups, first.ratio, first.width, output.weight.shape[0], model.norm_eps)
        self.step = _compiled(Shape(*shape))

    @staticmethod
    def fits(engine: Engine) -> bool:
        """Whether a step of this engine's model can be compiled here."""
        layout, model = engine.layout, engine.model
        plain = layout.tp == layout.pp == 1 and model.is_plain
        return engine.compile and plain and onednn.multiplies(next(engine.gpt.parameters()))

    def __call__(
        self, tokens: Tensor, position: int, begins: Tensor | None, rotation: Rotation, keys: list[Tensor], values: list[Tensor]
    ) -> Tensor:
        """Logits [b, V] after tokens [b] at ``position`` of sequences that begin at ``begins`` [b]; their keys and values are added to each layer's
        caches."""
        cos, sin = (factor.view(-1, factor.shape[-1]) for factor in rotation)
        at, seen = torch.tensor([position]), self.seen[: position + 1]
        torch._dynamo.mark_dynamic(seen, 0)
        begins = self.first if begins is None else begins
        return self.step(tokens, at, begins, seen, self.embedding, self.norms, cos, sin, self.packed.table, self.plain, keys, values)


@functools.cache
def _compiled(shape: Shape) -> Callable[..., Tensor]:
    compiler: Any = torch.compile  # its types do not know isolate_recompiles
    return compiler(functools.partial(_step, shape), options={"cpp_wrapper": True}, dynamic=False, isolate_recompiles=True)


def _step(
    shape: Shape,
    tokens: Tensor,
    position: Tensor,
    begins: Tensor,
    seen: Tensor,
    embedding: Tensor,
    norms: Tensor,
    cos: Tensor,
    sin: Tensor,
    table: Tensor,
    plain: dict[int, Tensor],
    keys: list[Tensor],
    values: list[Tensor],
) -> Tensor:
    """:meth:`Block.heads`, attention and :meth:`Block.finish` of every layer, and the logits."""
    rows, heads, groups, width = shape.rows, shape.groups * shape.ratio, shape.groups, shape.width
    all_groups, end = rows * groups, seen.shape[0]

    def product(x: Tensor, index: int, width: int) -> Tensor:
        return F.linear(x, plain[index]) if index in plain else onednn.PackedWeights.product(x, table, index, width)

    hidden = F.embedding(tokens, embedding)
    places = position - begins
    rotation = Rotation(cos[places][:, None, None], sin[places][:, None, None])
    padding = (torch.arange(end) < begins.repeat_interleave(groups)[:, None])[:, None]
    for layer in range(shape.layers):
        fused = product(_norm(hidden, norms[2 * layer], shape.eps), 4 * layer, (heads + 2 * groups) * width)
        fused = fused.view(rows, groups, shape.ratio + 2, width)
        turned = rotation.turn(fused[:, :, : shape.ratio + 1])
        keys[layer].index_copy_(2, position, turned[:, :, shape.ratio].reshape(all_groups, width, 1))
        values[layer].index_copy_(1, position, fused[:, :, shape.ratio + 1].reshape(all_groups, 1, width))
        query = turned[:, :, : shape.ratio].reshape(all_groups, shape.ratio, width, 1)
        scores = (query * keys[layer][:, None, :, :end]).sum(2) * width**-0.5  # written as sums, attention is fused too
        scores = scores.masked_fill(padding, float("-inf"))
        context = (torch.softmax(scores, -1)[..., None] * values[layer][:, None, :end]).sum(2).view(rows, heads * width)
        hidden = hidden + product(context, 4 * layer + 1, shape.hidden)
        inner = product(_norm(hidden, norms[2 * layer + 1], shape.eps), 4 * layer + 2, 2 * shape.inner)
        gate, up = inner.chunk(2, -1)
        hidden = hidden + product(F.silu(gate) * up, 4 * layer + 3, shape.hidden)
    return product(_norm(hidden, norms[2 * shape.layers], shape.eps), 4 * shape.layers, shape.vocab).float()


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """:func:`~modelyard.model.inference.block.norm` of RMSNorm in operations that torch's compiler fuses."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight
