"""Decoding for sequences that come and go: every row stands at a place of its own.

Batching a step at a time instead of a request at a time is Yu et al. 2022's (Orca, "iteration-level scheduling"). A prompt is read by
:class:`~modelyard.model.inference.decode.Decoder` and its keys and values are copied into the row that is free; the rows in use stay the
first ones, so a step looks at a view of the cache and copies nothing. Greedy tokens are those of
:func:`~modelyard.model.inference.generate.generate`, whoever else is in the batch. Left out: layouts of several ranks, compiled
steps, prompts that are read in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from modelyard.model.inference.block import Block, Rotation, norm, scaled
from modelyard.model.inference.decode import Decoder, Weights
from modelyard.model.inference.gallery import Gallery
from modelyard.model.network import onednn, parallel
from modelyard.model.training.engine import Engine


class Slots:
    """Keys and values of at most ``rows`` sequences of at most ``seq_len`` tokens."""

    def __init__(self, engine: Engine, rows: int) -> None:
        """Raises ValueError where the model is cut over several ranks."""
        if engine.layout.tp * engine.layout.pp > 1:
            raise ValueError("sequences that come and go are decoded by a model of one rank")
        engine.mode(training=False)
        engine.split_sequences(False)
        self.engine, self.gpt, self.rows, self.used = engine, engine.gpt, rows, 0
        self.places = torch.zeros(rows, dtype=torch.long, device=parallel.device())
        with torch.inference_mode():
            self.weights = Weights(engine, rows)
            length = engine.model.seq_len
            self.caches = [_Rows(block, rows, length, self.weights.dtype) for block in self.weights.blocks]
            self.rotation: Rotation | None = None
            if engine.model.style == "llama":
                self.rotation = Rotation.of(self.gpt, self.gpt.rotary_pos_emb(length).view(length, 1, 1, 1, -1), self.weights.dtype)

    def enter(self, prompt: Sequence[int], gallery: Gallery | None = None) -> Tensor:
        """Read a prompt into the next row, number ``used`` before the call; logits [V] of the token after it, fp32.

        ``gallery``: of the images in the prompt, in which they stand by its numbers.

        Raises:
            ValueError: every row is in use, or the prompt is empty or leaves no room for a token.
        """
        if self.used == self.rows:
            raise ValueError(f"all {self.rows} rows are in use")
        if not 0 < len(prompt) < self.engine.model.seq_len:
            raise ValueError(f"a prompt has 1 to {self.engine.model.seq_len - 1} tokens, this one {len(prompt)}")
        with torch.inference_mode():
            decoder = Decoder(self.engine, self.weights, 1, len(prompt), gallery)
            logits = decoder.logits(torch.tensor([prompt], device=parallel.device()), 0)[0]
            for cache, read in zip(self.caches, decoder.caches, strict=True):
                cache.take(self.used, read.keys[..., : len(prompt)], read.values[:, : len(prompt)])
        self.places[self.used] = len(prompt)
        self.used += 1
        return logits

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Feed a token to every row in use; logits [used, V] of the tokens after them, fp32."""
        with torch.inference_mode():
            places = self.places[: self.used]
            given = torch.tensor(tokens, device=places.device)[:, None]
            embedding = self.gpt.embedding
            hidden = scaled(self.gpt, torch.nn.functional.embedding(given, embedding.word_embeddings.weight))
            if embedding.add_position_embedding:
                hidden = hidden + embedding.position_embeddings.weight[places][:, None]
            rotation = None if self.rotation is None else Rotation(*(factor[places] for factor in self.rotation))
            end = int(places.max()) + 1
            for block, cache in zip(self.weights.blocks, self.caches, strict=True):
                hidden = block.finish(hidden, cache.attend(*block.heads(hidden, rotation), places, end))
            self.places[: self.used] += 1
            assert self.weights.output is not None
            logits = self.weights.output(norm(self.gpt.decoder.final_layernorm, hidden[:, -1]))
        return logits[:, : self.engine.model.vocab_size].float()

    def leave(self, row: int) -> int | None:
        """Free a row. The last row in use takes its place: the number that it had, or None where it was the last."""
        self.used -= 1
        if row == self.used:
            return None
        length = int(self.places[self.used])
        with torch.inference_mode():
            for cache in self.caches:
                cache.move(self.used, row, length)
        self.places[row] = self.places[self.used]
        return self.used


class _Rows:
    """Keys [rows, groups, d, length] and values [rows, groups, length, d] of one layer."""

    def __init__(self, block: Block, rows: int, length: int, dtype: torch.dtype) -> None:
        self.ratio, self.scale, self.window = block.ratio, block.scale or block.width**-0.5, block.window
        dtype = onednn.product_dtype(dtype, parallel.device())
        self.keys = torch.zeros(rows, block.groups, block.width, length, dtype=dtype, device=parallel.device())
        self.values = torch.zeros(rows, block.groups, length, block.width, dtype=dtype, device=parallel.device())

    def take(self, row: int, keys: Tensor, values: Tensor) -> None:
        """Keys [groups, d, n] and values [groups, n, d] of a prompt."""
        self.keys[row, :, :, : keys.shape[-1]] = keys
        self.values[row, :, : values.shape[1]] = values

    def move(self, origin: int, target: int, length: int) -> None:
        """A row's first ``length`` places to another."""
        self.keys[target, ..., :length] = self.keys[origin, ..., :length]
        self.values[target, :, :length] = self.values[origin, :, :length]

    def attend(self, turned: Tensor, value: Tensor, places: Tensor, end: int) -> Tensor:
        """Context [b, 1, heads * d] of one token a row at ``places`` [b] (see :meth:`Block.heads`), all below ``end``."""
        batch, _, groups, _, width = turned.shape
        rows = torch.arange(batch, device=places.device)
        self.keys[rows, :, :, places] = turned[:, 0, :, self.ratio].to(self.keys.dtype)
        self.values[rows, :, places] = value[:, 0].to(self.values.dtype)
        query = turned[:, 0, :, : self.ratio].to(self.keys.dtype)  # [b, groups, ratio, d]
        scores = torch.matmul(query, self.keys[:batch, ..., :end]).mul_(self.scale)
        column = torch.arange(end, device=places.device)
        unseen = column > places[:, None]
        if self.window:
            unseen |= column <= places[:, None] - self.window
        scores = scores.masked_fill(unseen[:, None, None], float("-inf"))
        context = torch.matmul(torch.softmax(scores, -1), self.values[:batch, :, :end])
        return context.reshape(batch, 1, groups * self.ratio * width).to(value.dtype)
