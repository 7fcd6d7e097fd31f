"""Forward steps of a language model with a key-value cache.

A decoding step of a small model is nearly all overhead and reading of weights, so the layer is :mod:`modelyard.model.inference.block`'s: few
calls, packed weights. Tests hold its log-probabilities to the training forward's (1e-5 in fp32) for both styles, at every layout. Buffers
(:mod:`modelyard.model.inference.cache`) are allocated once, for layers with a window too, which look at their end. Sequences that begin with the
same prompt read it once, and prompts are read a few at a time, so that what a layer makes of them stays in a CPU's cache. Prompts of unlike length
end at the same place, so that one step serves all: a sequence may begin later than the first place, and nobody sees the padding before it. Where
all begin alike (a few-shot preface), those tokens are read and kept for one sequence, and the padding stands behind them. Left out: prompts that
are read in more than these two pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from modelyard.model.inference.attend import added
from modelyard.model.inference.block import Block, Rotation, norm, scaled, tokens_at_once
from modelyard.model.inference.cache import Cache
from modelyard.model.inference.compiled_decode import ROUND, CompiledStep
from modelyard.model.inference.gallery import Gallery
from modelyard.model.inference.graphed_step import GraphedStep
from modelyard.model.inference.product import output_product
from modelyard.model.network import parallel
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
        what is fed before it being padding; all begin at 0 where it is absent. ``shared``: how many tokens all sequences begin with, which
        :meth:`begin` reads; the padding then stands behind them. Only where :func:`shares` says so."""
        self.engine, self.gpt, self.weights, self.gallery, self.begins = engine, engine.gpt, weights, gallery, begins
        self.shared = shared
        self.compiled = weights.compiled if weights.compiled and weights.compiled.rows == batch else None
        if self.compiled:
            length += -length % ROUND
        self.caches = [Cache(block, batch, length - shared, weights.dtype) for block in weights.blocks]
        self.rotation: Rotation | None = None
        if engine.model.style == "llama":
            self.rotation = Rotation.of(self.gpt, self.gpt.rotary_pos_emb(length).view(1, length, 1, 1, -1), weights.dtype)
        self.graphed: GraphedStep | None = None
        if GraphedStep.fits(engine) and weights.output:
            caches = [(cache.keys, cache.values) for cache in self.caches]
            self.graphed = GraphedStep(engine, weights.blocks, weights.output, self.rotation, caches, begins)
        self.padding = None if begins is None else self._padding(begins, length - shared)

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

    def begin(self, tokens: Tensor) -> None:
        """Read the tokens [P] that all sequences begin with."""
        self._through(tokens[None], slice(0, len(tokens)), lambda cache, turned, value: cache.begin(turned, value))

    def logits(self, tokens: Tensor, position: int) -> Tensor:
        """Feed tokens [b, n] at ``position`` through every stage; logits [b, V] of the token after them, fp32, on every rank."""
        if tokens.shape[1] > 1:
            return self._read(tokens, position)
        seen = self.gallery is not None and bool(self.gallery.places(tokens).any())  # a compiled step embeds words only
        if not seen and self.compiled and self.rotation:
            keys, values = [cache.keys for cache in self.caches], [cache.values for cache in self.caches]
            return self.compiled(tokens[:, 0].contiguous(), position, self.begins, self.rotation, keys, values)[
                :, : self.engine.model.vocab_size
            ]
        if not seen and self.graphed:
            return self.graphed(tokens[:, 0], position)
        places = slice(position, position + 1) if self.begins is None else (position - self.begins)[:, None]
        column = position - self.shared
        return self._through(tokens, places, lambda cache, turned, value: cache.step(turned, value, column, self.padding))

    def _read(self, tokens: Tensor, position: int) -> Tensor:
        """:meth:`logits` of several tokens, at the beginning or behind what all share."""
        layout, begins, of = self.engine.layout, self.begins, None
        if not self.shared and self.gallery is None and layout.ep == 1:  # ranks that share out experts read equally many
            tokens, begins, of = _distinct(tokens, begins)
        places, mask = self._places(position, tokens.shape[1], begins)
        found = []
        for piece in self._pieces(tokens, places, mask, of):

            def attend(cache: Cache, turned: Tensor, value: Tensor, piece: _Piece = piece) -> Tensor:
                return cache.read(turned, value, piece.mask, piece.rows, piece.of)

            found.append(self._through(piece.tokens, piece.places, attend))
        logits = torch.cat(found) if len(found) > 1 else found[0]
        return logits if of is None else logits.index_select(0, of)

    def _pieces(self, tokens: Tensor, places: slice | Tensor, mask: Tensor | None, of: Tensor | None) -> Iterator[_Piece]:
        """So many of the sequences [b, n] at a time as a layer computes best at once; all of them where ranks would have to agree on it."""
        layout, (batch, count) = self.engine.layout, tokens.shape
        alone = layout.pp == layout.ep == 1
        size = max(1, tokens_at_once(self.engine.model, self.weights.dtype) // count) if alone else batch
        for start in range(0, batch, size):
            own = slice(start, start + size)
            rows: slice | Tensor = own
            which: slice | Tensor = slice(None)
            if of is not None:
                rows = ((of >= start) & (of < start + size)).nonzero().squeeze(1)
                which = of[rows] - start
            yield _Piece(
                tokens[own],
                places if isinstance(places, slice) else places[own],
                mask[own] if mask is not None and len(mask) == batch else mask,
                rows,
                which,
            )

    def _through(self, tokens: Tensor, places: slice | Tensor, attend: Callable[[Cache, Tensor, Tensor], Tensor]) -> Tensor:
        """Tokens [b, n] through every stage, ``attend`` making each layer's context; logits [b, V] of the token after them, on every rank."""
        layout, (batch, count) = self.engine.layout, tokens.shape
        rotation = None
        if self.rotation is not None:
            rotation = Rotation(*(factor[0, places] for factor in self.rotation))
        layers, size = list(zip(self.weights.blocks, self.caches, strict=True)), len(self.caches) // layout.vp
        logits = None
        for chunk in range(layout.vp):
            hidden = self._embed(tokens, places) if chunk == 0 and layout.is_first_stage else self._receive(batch, count)
            for block, cache in layers[chunk * size : (chunk + 1) * size]:
                hidden = block.finish(hidden, attend(cache, *block.heads(hidden, rotation)))
            if chunk == layout.vp - 1 and layout.is_last_stage:
                logits = self._head(hidden)
            else:
                self._send(hidden)
        return parallel.from_last_stage(logits, (batch, self.engine.model.vocab_size), torch.float32)

    def _places(self, position: int, count: int, begins: Tensor | None) -> tuple[slice | Tensor, Tensor | None]:
        """Where in its sequence each of ``count`` columns from ``position`` on stands, for all (a slice) or for each [b, count]; and who sees whom,
        as :meth:`Cache.read` takes it."""
        columns = torch.arange(count, device=parallel.device())
        places: slice | Tensor = slice(position, position + count)
        if self.shared:
            own = (columns <= columns[:, None])[None, None]
            if begins is not None:
                own = own & ~(columns < begins[:, None])[:, None, None]
                places = (position + columns - begins[:, None]).clamp_min(0)
            return places, added(F.pad(own, (self.shared, 0), value=True), self.weights.dtype)
        if begins is None:
            return places, None
        window = next((block.window for block in self.weights.blocks if block.window), None)
        places, mask = segmented(-(columns < begins[:, None]).long(), window=window)
        return places, added(mask, self.weights.dtype)

    def _padding(self, begins: Tensor, length: int) -> Tensor:
        """What to add to a step's scores [b * groups, r, length] of the places of each sequence's padding."""
        cache = self.caches[0]
        hidden = (torch.arange(length, device=begins.device) < begins[:, None]).repeat_interleave(cache.groups, 0)
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


class _Piece(NamedTuple):
    """Some sequences that are read at once: see :meth:`Cache.read`."""

    tokens: Tensor
    places: slice | Tensor
    mask: Tensor | None
    rows: slice | Tensor
    of: slice | Tensor


def _distinct(tokens: Tensor, begins: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(tokens, begins) of the sequences of a batch that differ, and which of them each is; None where all do: several completions of one prompt
    read it once."""
    told = tokens if begins is None else torch.cat([begins[:, None], tokens], 1)
    different, of = torch.unique(told, dim=0, return_inverse=True)
    if len(different) == len(told):
        return tokens, begins, None
    return (different, None, of) if begins is None else (different[:, 1:], different[:, 0], of)


def shares(engine: Engine, weights: Weights) -> bool:
    """Whether what sequences begin with alike can be read once: not where a step is compiled or captured, ranks share out experts, or layers
    have windows."""
    plain = weights.compiled is None and not GraphedStep.fits(engine) and engine.layout.ep == 1
    return plain and not any(block.window for block in weights.blocks)
