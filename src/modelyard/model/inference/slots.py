"""Decoding for sequences that come and go: every row stands at a place of its own.

Batching a step at a time instead of a request at a time is Yu et al. 2022's (Orca, "iteration-level scheduling"). A prompt is read by
:class:`~modelyard.model.inference.decode.Decoder` and its keys and values are copied into the row that is free; the rows in use stay the
first ones, so a step looks at a view of the cache and copies nothing. Caches begin with :data:`FIRST` places a row and double when the longest
sequence has come to their end, so a step copies them a few times in a whole context and otherwise never. Greedy tokens are those of
:func:`~modelyard.model.inference.generate.generate`, whoever else is in the batch. Left out: layouts of several ranks, compiled
steps, prompts that are read in pieces, rows of a length of their own.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

from modelyard.model.inference import footprint
from modelyard.model.inference.block import Block, Rotation, norm, scaled
from modelyard.model.inference.decode import Decoder, Weights
from modelyard.model.inference.gallery import Gallery
from modelyard.model.network import devices, onednn, parallel
from modelyard.model.training.engine import Engine

FIRST = 1024
"""Places a row that caches begin with, and by whose multiples they grow."""
GIB = 2**30


class Slots:
    """Keys and values of at most ``rows`` sequences of at most ``context`` tokens (absent: the model's ``seq_len``)."""

    def __init__(self, engine: Engine, rows: int, context: int | None = None) -> None:
        """Raises ValueError where the model is cut over several ranks, or was made for less than ``context``."""
        if engine.layout.tp * engine.layout.pp > 1:
            raise ValueError("sequences that come and go are decoded by a model of one rank")
        if context is not None and context > engine.model.seq_len:
            raise ValueError(f"a context of {context} tokens is more than the model's {engine.model.seq_len}")
        engine.mode(training=False)
        engine.split_sequences(False)
        self.engine, self.gpt, self.rows, self.used = engine, engine.gpt, rows, 0
        self.context = context or engine.model.seq_len
        self.lengths: list[int] = []
        """Tokens of each row in use, as ``places`` has them where the model is."""
        self.places = torch.zeros(rows, dtype=torch.long, device=parallel.device())
        with torch.inference_mode():
            self.weights = Weights(engine, rows)
            length = self.context
            self.places_a_row = min(FIRST, length)
            self.caches = [_Rows(block, rows, self.places_a_row, self.weights.dtype) for block in self.weights.blocks]
            self.rotation: Rotation | None = None
            if engine.model.style == "llama":
                self.rotation = Rotation.of(self.gpt, self.gpt.rotary_pos_emb(length).view(length, 1, 1, 1, -1), self.weights.dtype)

    def enter(self, prompt: Sequence[int], gallery: Gallery | None = None) -> Tensor:
        """Read a prompt into the next row, number ``used`` before the call; logits [V] of the token after it, fp32.

        ``gallery``: of the images in the prompt, in which they stand by its numbers.

        Raises:
            ValueError: every row is in use, or the prompt is empty, leaves no room for a token or has no room in memory.
        """
        if self.used == self.rows:
            raise ValueError(f"all {self.rows} rows are in use")
        if not 0 < len(prompt) < self.context:
            raise ValueError(f"a prompt has 1 to {self.context - 1} tokens, this one {len(prompt)}")
        logits = self._read(prompt, gallery) if self._grown(len(prompt)) else None
        if logits is None:
            self._give_back()
            raise ValueError(f"there is no memory for the keys and values of {len(prompt)} tokens beside those of {self.used} requests")
        self.places[self.used] = len(prompt)
        self.lengths.append(len(prompt))
        self.used += 1
        return logits

    def _read(self, prompt: Sequence[int], gallery: Gallery | None) -> Tensor | None:
        """Logits of the token after a prompt, whose keys and values are in the next row then; None where memory ended."""
        with contextlib.suppress(MemoryError), devices.shortage_as_memory_error(), torch.inference_mode():
            decoder = Decoder(self.engine, self.weights, 1, len(prompt), gallery)
            logits = decoder.logits(torch.tensor([prompt], device=parallel.device()), 0)[0]
            for cache, read in zip(self.caches, decoder.caches, strict=True):
                cache.take(self.used, read.keys[..., : len(prompt)], read.values[:, : len(prompt)])
            return logits
        return None

    @property
    def longest(self) -> int:
        """The row in use that has most tokens, which leaves where memory does not suffice for all."""
        return self.lengths.index(max(self.lengths))

    def shortage(self) -> str:
        """One line where memory does not suffice for every row at its longest; "" where it does."""
        left, most = devices.memory_left() + self.rows * self.places_a_row * self._bytes, self.rows * self.context * self._bytes
        beside = self._beside(self.context)
        if self.places_a_row == self.context or most + beside <= left:
            return ""
        room = bisect.bisect(range(self.context), left, key=lambda places: self.rows * places * self._bytes + self._beside(places)) - 1
        return (
            f"keys and values of {self.rows} conversations of {self.context:,} tokens take {most / GIB:.1f} GiB and reading one {beside / GIB:.1f}, "
            f"and {left / GIB:.1f} GiB are free: room for {max(room, self.places_a_row):,} tokens each; "
            "an answer that finds none ends with an error (--rows, --context)"
        )

    @property
    def _bytes(self) -> int:
        """Of one place of one row."""
        return sum(cache.keys.element_size() * cache.keys.shape[1] * 2 * cache.keys.shape[2] for cache in self.caches)

    def _beside(self, places: int) -> int:
        """Bytes to keep free beside caches of so many places: for a step, and for a prompt that fills a row."""
        model, size = self.engine.model, self.caches[0].keys.element_size()
        return max(footprint.of_prompt(model, self.weights.blocks, size, places), footprint.of_step(model, size, self.rows, places))

    def _grown(self, length: int) -> bool:
        """Whether every row has ``length`` places, after growing where memory suffices. One layer is there twice while it is copied."""
        needed = min(-(-length // FIRST) * FIRST, self.context)
        for places in (min(max(2 * self.places_a_row, needed), self.context), needed):
            if length <= self.places_a_row:
                break
            added, layer = places - self.places_a_row, self.places_a_row // len(self.caches)
            if self.rows * added * self._bytes + max(self.rows * layer * self._bytes, self._beside(places)) <= devices.memory_left():
                self._resize(places)
        return length <= self.places_a_row

    def _resize(self, places: int) -> None:
        """Give every row ``places``, or those that it had where memory ends amid it: what is free may be in pieces."""
        before = self.places_a_row
        with torch.inference_mode():
            with contextlib.suppress(MemoryError), devices.shortage_as_memory_error():
                for cache in self.caches:
                    cache.resize(places)
            for cache in self.caches if self.caches[-1].places != places else ():
                with contextlib.suppress(MemoryError), devices.shortage_as_memory_error():
                    cache.resize(before)
        self.places_a_row = min(cache.places for cache in self.caches)

    def _give_back(self) -> None:
        """What one long conversation needed, when no row is in use: first, so that beginning anew finds memory."""
        if self.used or all(cache.places <= FIRST for cache in self.caches):
            return
        with torch.inference_mode():
            for cache in self.caches:
                cache.resize(0)
        self.places_a_row = 0
        self._resize(min(FIRST, self.context))

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Feed a token to every row in use; logits [used, V] of the tokens after them, fp32. Raises MemoryError where memory does
        not suffice; nobody has had a token then, and the :attr:`longest` has to leave."""
        end = max(self.lengths) + 1
        if not self._grown(end):
            raise MemoryError(f"there is no memory for the keys and values of {end} tokens in {self.rows} rows")
        with devices.shortage_as_memory_error(), torch.inference_mode():
            places = self.places[: self.used]
            given = torch.tensor(tokens, device=places.device)[:, None]
            embedding = self.gpt.embedding
            hidden = scaled(self.gpt, torch.nn.functional.embedding(given, embedding.word_embeddings.weight))
            if embedding.add_position_embedding:
                hidden = hidden + embedding.position_embeddings.weight[places][:, None]
            rotation = None if self.rotation is None else Rotation(*(factor[places] for factor in self.rotation))
            for block, cache in zip(self.weights.blocks, self.caches, strict=True):
                hidden = block.finish(hidden, cache.attend(*block.heads(hidden, rotation), places, end))
            assert self.weights.output is not None
            logits = self.weights.output(norm(self.gpt.decoder.final_layernorm, hidden[:, -1]))[:, : self.engine.model.vocab_size].float()
            places += 1
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def leave(self, row: int) -> int | None:
        """Free a row. The last row in use takes its place: the number that it had, or None where it was the last."""
        self.used -= 1
        length = self.lengths.pop()
        self._give_back()
        if row == self.used:
            return None
        with torch.inference_mode():
            for cache in self.caches:
                cache.move(self.used, row, length)
        self.places[row] = self.places[self.used]
        self.lengths[row] = length
        return self.used


class _Rows:
    """Keys [rows, groups, d, length] and values [rows, groups, length, d] of one layer."""

    def __init__(self, block: Block, rows: int, length: int, dtype: torch.dtype) -> None:
        self.ratio, self.scale, self.window = block.ratio, block.scale or block.width**-0.5, block.window
        dtype = onednn.product_dtype(dtype, parallel.device())
        self.keys = torch.zeros(rows, block.groups, block.width, length, dtype=dtype, device=parallel.device())
        self.values = torch.zeros(rows, block.groups, length, block.width, dtype=dtype, device=parallel.device())

    @property
    def places(self) -> int:
        """That every row has."""
        return self.keys.shape[-1]

    def resize(self, length: int) -> None:
        """Give every row ``length`` places; what was in the first ones stays."""
        if length == self.places:
            return
        kept, shape = min(length, self.keys.shape[-1]), self.keys.shape
        keys = self.keys.new_zeros(*shape[:3], length)
        keys[..., :kept] = self.keys[..., :kept]
        values = self.values.new_zeros(*shape[:2], length, shape[2])
        values[:, :, :kept] = self.values[:, :, :kept]
        self.keys, self.values = keys, values

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
