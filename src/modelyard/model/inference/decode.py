"""Forward steps of a language model with a key-value cache.

A decoding step of a small model is nearly all overhead and reading of weights, so the layer is :mod:`modelyard.model.inference.block`'s: few
calls, packed weights. Tests hold its log-probabilities to the training forward's (1e-5 in fp32) for both styles, at every layout. Buffers are
allocated once, for layers with a window too, which look at their end; the r queries of a key group stand side by side, so grouped attention is
plain attention. Sequences that begin with the same prompt read it once. Prompts of unlike length end at the same place, so that one step serves
all: a sequence may begin later than the first place, and nobody sees the padding before it. Where all begin alike (a few-shot preface), those
tokens are read for one sequence, and the padding stands behind them. Left out: prompts that are read in more than these two pieces.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from modelyard.model.inference.block import Block, Rotation, norm, scaled
from modelyard.model.inference.compiled_decode import ROUND, CompiledStep
from modelyard.model.inference.gallery import Gallery
from modelyard.model.inference.graphed_step import GraphedStep
from modelyard.model.inference.product import output_product
from modelyard.model.network import attention, onednn, parallel
from modelyard.model.training.batch import segmented
from modelyard.model.training.engine import Engine


class Weights:
    """This rank's layers and output layer, laid out for ``rows`` sequences; made once for all batches of a call."""

    def __init__(self, engine: Engine, rows: int) -> None:
        from megatron.core import parallel_state

        self.tp_group = parallel_state.get_tensor_model_parallel_group() if engine.layout.tp > 1 else None
        self.blocks = [Block(layer, rows, self.tp_group) for layer in engine.gpt.decoder.layers]
        self.output = output_product(engine.gpt, rows) if engine.layout.is_last_stage else None
        self.dtype = next(engine.gpt.parameters()).dtype
        self.compiled = CompiledStep(engine, self.blocks, self.output, rows) if self.output and CompiledStep.fits(engine) else None


class Decoder:
    """The keys and values of ``batch`` sequences of at most ``length`` tokens, and the steps that add to them."""

    def __init__(
        self,
        engine: Engine,
        weights: Weights,
        batch: int,
        length: int,
        gallery: Gallery | None = None,
        begins: Tensor | None = None,
        shared: int = 0,
    ) -> None:
        """``gallery``: of the images whose positions are among the tokens that are fed. ``begins`` [b]: the place of each sequence's first token,
        what is fed before it being padding; all begin at 0 where it is absent. ``shared``: how many tokens, fed first and by themselves, all
        sequences begin with; the padding then stands behind them. Only where :func:`shares` says so."""
        self.engine, self.gpt, self.weights, self.gallery, self.begins = engine, engine.gpt, weights, gallery, begins
        self.shared = shared
        self.compiled = weights.compiled if weights.compiled and weights.compiled.rows == batch else None
        if self.compiled:
            length += -length % ROUND
        self.caches = [_Cache(block, batch, length, weights.dtype) for block in weights.blocks]
        self.rotation: Rotation | None = None
        if engine.model.style == "llama":
            self.rotation = Rotation.of(self.gpt, self.gpt.rotary_pos_emb(length).view(1, length, 1, 1, -1), weights.dtype)
        self.graphed: GraphedStep | None = None
        if GraphedStep.fits(engine) and weights.output:
            caches = [(cache.keys, cache.values) for cache in self.caches]
            self.graphed = GraphedStep(engine, weights.blocks, weights.output, self.rotation, caches, begins)
        self.padding = None if begins is None else self._padding(begins, length)

    @property
    def drops(self) -> bool:
        """Whether :meth:`keep` can be called: a compiled or captured step is of a fixed number of rows, and ranks that share out experts go on
        with equally many."""
        return self.compiled is None and self.graphed is None and self.engine.layout.ep == 1

    def keep(self, rows: Tensor) -> None:
        """Go on with these sequences [n] of the batch alone, in this order."""
        for cache in self.caches:
            cache.keep(rows)
        if self.begins is not None:
            self.begins = self.begins[rows]
            self.padding = self._padding(self.begins, self.caches[0].values.shape[1])

    def logits(self, tokens: Tensor, position: int) -> Tensor:
        """Feed tokens [b, n] at ``position`` through every stage; logits [b, V] of the token after them, fp32, on every rank."""
        layout, (batch, count) = self.engine.layout, tokens.shape
        seen = self.gallery is not None and bool(self.gallery.places(tokens).any())  # a compiled step embeds words only
        if not seen and self.compiled and self.rotation and count == 1:
            keys, values = [cache.keys for cache in self.caches], [cache.values for cache in self.caches]
            return self.compiled(tokens[:, 0].contiguous(), position, self.begins, self.rotation, keys, values)[
                :, : self.engine.model.vocab_size
            ]
        if not seen and self.graphed and count == 1:
            return self.graphed(tokens[:, 0], position)
        begins, of = (None if self.shared and position == 0 else self.begins), None
        if count > 1 and position == 0 and self.gallery is None and layout.ep == 1:  # ranks that share out experts read equally many
            tokens, begins, of = _distinct(tokens, begins)
            batch = tokens.shape[0]
        places, mask = self._places(position, count, begins)
        rotation = None
        if self.rotation is not None:
            rotation = Rotation(*(factor[0, places] for factor in self.rotation))
        layers, size = list(zip(self.weights.blocks, self.caches, strict=True)), len(self.caches) // layout.vp
        logits = None
        for chunk in range(layout.vp):
            hidden = self._embed(tokens, places) if chunk == 0 and layout.is_first_stage else self._receive(batch, count)
            for block, cache in layers[chunk * size : (chunk + 1) * size]:
                hidden = block.finish(hidden, cache.attend(*block.heads(hidden, rotation), position, mask, of))
            if chunk == layout.vp - 1 and layout.is_last_stage:
                logits = self._head(hidden)
            else:
                self._send(hidden)
        logits = parallel.from_last_stage(logits, (batch, self.engine.model.vocab_size), torch.float32)
        return logits if of is None else logits.index_select(0, of)

    def _places(self, position: int, count: int, begins: Tensor | None) -> tuple[slice | Tensor, Tensor | None]:
        """Where in its sequence each of ``count`` columns from ``position`` on stands, for all (a slice) or for each [b, count]; and what is hidden
        from attention: [b * groups, 1, length] added to a step's scores, or who sees whom at the beginning [b, 1 or 2, count, count], or behind
        what all share [b or 1, 1, count, position + count]."""
        if position and count > 1:
            return self._behind_shared(position, count, begins)
        if begins is None:
            return slice(position, position + count), None
        if count == 1:
            return (position - begins)[:, None], self.padding
        columns = torch.arange(count, device=begins.device)
        window = next((block.window for block in self.weights.blocks if block.window), None)
        return segmented(-(columns < begins[:, None]).long(), window=window)

    def _behind_shared(self, position: int, count: int, begins: Tensor | None) -> tuple[slice | Tensor, Tensor]:
        """:meth:`_places` of the rest of the prompts, which sees what all begin with."""
        own = torch.arange(position, position + count, device=parallel.device())
        seen = torch.arange(position + count, device=own.device) <= own[:, None]
        if begins is None:
            return slice(position, position + count), seen[None, None]
        return (own - begins[:, None]).clamp_min(0), (seen & ~self._hidden(begins, position + count)[:, None])[:, None]

    def _hidden(self, begins: Tensor, length: int) -> Tensor:
        """Which places hold each sequence's padding [b, length]."""
        places = torch.arange(length, device=begins.device)
        return (places >= self.shared) & (places < self.shared + begins[:, None])

    def _padding(self, begins: Tensor, length: int) -> Tensor:
        """What to add to scores [b * groups, r, length] of the places of each sequence's padding."""
        cache = self.caches[0]
        hidden = self._hidden(begins, length).repeat_interleave(cache.groups, 0)
        return torch.zeros(hidden.shape, dtype=cache.keys.dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))[:, None]

    def _embed(self, tokens: Tensor, places: slice | Tensor) -> Tensor:
        embedding, gallery = self.gpt.embedding, self.gallery
        words = tokens if gallery is None else gallery.words(tokens)
        if self.weights.tp_group is None:
            hidden = F.embedding(words, embedding.word_embeddings.weight)
        else:
            hidden = embedding.word_embeddings(words).clone()
        hidden = scaled(self.gpt, hidden)
        if gallery is not None:
            hidden = gallery.embed(tokens, hidden)
        if embedding.add_position_embedding:
            hidden += embedding.position_embeddings.weight[places]
        return hidden

    def _head(self, hidden: Tensor) -> Tensor:
        assert self.weights.output is not None
        logits = self.weights.output(norm(self.gpt.decoder.final_layernorm, hidden[:, -1]))
        if self.weights.tp_group is not None:
            parts = [torch.empty_like(logits) for _ in range(self.engine.layout.tp)]
            dist.all_gather(parts, logits, group=self.weights.tp_group)
            logits = torch.cat(parts, -1)
        return logits[:, : self.engine.model.vocab_size].float()

    def _receive(self, batch: int, count: int) -> Tensor:
        from megatron.core import parallel_state

        hidden = torch.empty(batch, count, self.engine.model.hidden, dtype=self.weights.dtype, device=parallel.device())
        dist.recv(hidden, parallel_state.get_pipeline_model_parallel_prev_rank(), group=parallel_state.get_pipeline_model_parallel_group())
        return hidden

    def _send(self, hidden: Tensor) -> None:
        from megatron.core import parallel_state

        target = parallel_state.get_pipeline_model_parallel_next_rank()
        dist.send(hidden.contiguous(), target, group=parallel_state.get_pipeline_model_parallel_group())


def _distinct(tokens: Tensor, begins: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(tokens, begins) of the sequences of a batch that differ, and which of them each is; None where all do: several completions of one prompt
    read it once."""
    told = tokens if begins is None else torch.cat([begins[:, None], tokens], 1)
    different, of = torch.unique(told, dim=0, return_inverse=True)
    if len(different) == len(told):
        return tokens, begins, None
    return (different, None, of) if begins is None else (different[:, 1:], different[:, 0], of)


class _Cache:
    """Keys [b * groups, d, length] and values [b * groups, length, d] of one layer."""

    def __init__(self, block: Block, batch: int, length: int, dtype: torch.dtype) -> None:
        self.ratio, self.scale, self.window = block.ratio, block.scale or block.width**-0.5, block.window
        self.groups, rows = block.groups, batch * block.groups
        dtype = onednn.product_dtype(dtype, parallel.device())  # they are factors of every later step
        # zeros: a masked place must not hold what is no number
        self.keys = torch.zeros(rows, block.width, length, dtype=dtype, device=parallel.device())
        self.values = torch.zeros(rows, length, block.width, dtype=dtype, device=parallel.device())
        self.nothing = self.keys.new_zeros(1)

    def keep(self, rows: Tensor) -> None:
        """Leave out all sequences but ``rows`` [n]."""
        self.keys, self.values = (
            kept.view(-1, self.groups, *kept.shape[1:]).index_select(0, rows).flatten(0, 1) for kept in (self.keys, self.values)
        )

    def attend(self, turned: Tensor, value: Tensor, position: int, mask: Tensor | None = None, of: Tensor | None = None) -> Tensor:
        """Context [b, n, heads * d] of n new tokens (see :meth:`Block.heads`), whose keys and values are remembered; ``mask``: see
        :meth:`Decoder._places`; ``of``: which of the b each sequence of the batch is, where they are fewer."""
        batch, count, groups, _, width = turned.shape
        end, ratio = position + count, self.ratio
        key = turned[..., ratio, :]
        if count == 1:  # the queries of a group are rows of one product, and all of them see the whole cache or its window
            self.keys[:, :, position] = key.reshape(-1, width)
            self.values[:, position] = value.reshape(-1, width)
            query = turned[:, 0, :, :ratio].reshape(batch * groups, ratio, width).to(self.keys.dtype)
            seen = slice(max(0, end - self.window) if self.window else 0, end)
            hidden, beta = (self.nothing, 0) if mask is None else (mask[..., seen], 1)
            scores = torch.baddbmm(hidden, query, self.keys[:, :, seen], beta=beta, alpha=self.scale)
            return torch.bmm(torch.softmax(scores, -1), self.values[:, seen]).view(batch, 1, -1).to(value.dtype)
        if position:
            return self._attend_behind(turned, value, position, mask)
        every = slice(None) if of is None else of
        self.keys.unflatten(0, (-1, groups))[..., :end] = key.permute(0, 2, 3, 1)[every]
        self.values.unflatten(0, (-1, groups))[:, :, :end] = value.transpose(1, 2)[every]
        query = turned[..., :ratio, :].reshape(batch, count, -1, width).transpose(1, 2)
        keys, values = key.transpose(1, 2), value.transpose(1, 2)
        mask = attention.layer_mask(mask, self.window, batch, count, query.device)
        context = F.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, is_causal=mask is None, scale=self.scale, enable_gqa=ratio > 1
        )
        return context.transpose(1, 2).reshape(batch, count, -1)

    def _attend_behind(self, turned: Tensor, value: Tensor, position: int, mask: Tensor | None) -> Tensor:
        """:meth:`attend` of several tokens behind what all sequences begin with, which ``mask`` [b or 1, 1, n, position + n] lets them see."""
        batch, count, groups, _, width = turned.shape
        end, ratio = position + count, self.ratio
        self.keys.unflatten(0, (-1, groups))[..., position:end] = turned[..., ratio, :].permute(0, 2, 3, 1)
        self.values.unflatten(0, (-1, groups))[:, :, position:end] = value.transpose(1, 2)
        query = turned[..., :ratio, :].reshape(batch, count, -1, width).transpose(1, 2)
        keys = self.keys[..., :end].unflatten(0, (-1, groups)).transpose(2, 3).to(query.dtype)
        values = self.values[:, :end].unflatten(0, (-1, groups)).to(query.dtype)
        context = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=self.scale, enable_gqa=ratio > 1)
        return context.transpose(1, 2).reshape(batch, count, -1)


def shares(engine: Engine, weights: Weights) -> bool:
    """Whether what sequences begin with alike can be read once: not where a step is compiled or captured, ranks share out experts, or layers
    have windows."""
    plain = weights.compiled is None and not GraphedStep.fits(engine) and engine.layout.ep == 1
    return plain and not any(block.window for block in weights.blocks)
