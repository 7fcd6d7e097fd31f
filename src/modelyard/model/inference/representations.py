"""What a frozen model makes of a text: hidden states of some layers, averaged over its tokens and at the last one.

Features for classifiers that are trained without the model (Markov et al. 2022, arXiv:2208.03274, put small heads on a decoder). The layers
are :mod:`modelyard.model.inference.block`'s; those above the last one that is asked for are not run. A text longer than a window is cut into
windows of equal length, each read by itself. Left out: more than one rank, gradients.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from modelyard.model.inference.attend import attend
from modelyard.model.inference.block import Block, Rotation, scaled, tokens_at_once
from modelyard.model.network import attention, parallel
from modelyard.model.training.engine import Engine


def cut(ids: Sequence[int], width: int) -> list[list[int]]:
    """Windows of at most ``width`` tokens, as equal as can be; one empty window of no token."""
    count = max(1, -(-len(ids) // width))
    edges = [round(number * len(ids) / count) for number in range(count + 1)]
    return [list(ids[start:end]) for start, end in itertools.pairwise(edges)]


class Representations:
    """The lower layers of one engine's language model; one rank only."""

    def __init__(self, engine: Engine, layers: Sequence[int]) -> None:
        """``layers``: after how many layers hidden states are taken. Raises ValueError for one that the model has not."""
        if engine.layout.tp * engine.layout.pp > 1:
            raise ValueError("representations need a whole model on one rank")
        if not layers or not 1 <= min(layers) <= max(layers) <= engine.model.layers:
            raise ValueError(f"layers {list(layers)}: the model has layers 1 to {engine.model.layers}")
        self.gpt, self.layers, self.seq_len = engine.gpt, tuple(layers), engine.model.seq_len
        self.width = 2 * len(self.layers) * engine.model.hidden
        self.tokens = tokens_at_once(engine.model, torch.float32)
        with torch.inference_mode():
            self.blocks = [Block(layer, self.tokens, products=torch.float32) for layer in self.gpt.decoder.layers[: max(self.layers)]]
            self._angles = self.gpt.rotary_pos_emb(self.seq_len)[:, 0, 0].float() if self._rotates else None

    @property
    def _rotates(self) -> bool:
        return bool(self.gpt.position_embedding_type == "rope")

    def of(
        self,
        rows: Sequence[Sequence[int]],
        report: Callable[[int, int], None] = lambda done, total: None,
        once: Callable[[int, Callable[[], Tensor]], Tensor] = lambda count, make: make(),
    ) -> Tensor:
        """Features [N, width] fp32 of token rows (none empty or longer than the context): layer by layer the mean over tokens, then the last.

        ``once`` is given the number of rows of a batch and what computes them, and may know them already; batches always come in one order.
        """
        features, done = torch.empty(len(rows), self.width), 0
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        while order:
            most = max(1, self.tokens // len(rows[order[-1]]))
            chosen, order = order[-most:], order[:-most]
            features[chosen] = once(len(chosen), partial(self._batch, [rows[number] for number in chosen]))
            done += len(chosen)
            report(done, len(rows))
        return features

    @torch.inference_mode()
    def _batch(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """[n, width]; padding stands on the right, where no token before it sees it."""
        device, width = parallel.device(), max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        real = (torch.arange(width, device=device) < lengths[:, None]).float()[..., None]
        hidden = scaled(self.gpt, F.embedding(ids, self.gpt.embedding.word_embeddings.weight).float())
        rotation = None
        if self._angles is not None:
            rotation = Rotation.of(self.gpt, self._angles[:width][None, :, None, None], torch.float32)
        else:
            hidden = hidden + self.gpt.embedding.position_embeddings.weight[:width].float()
        found: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks, 1):
            turned, value = block.heads(hidden, rotation)
            query, key = turned[..., : block.ratio, :].flatten(2, 3), turned[..., block.ratio, :]
            mask = attention.layer_mask(None, block.window, len(rows), width, device)
            hidden = block.finish(hidden, attend(query, key, value, mask, block.scale))
            if number in self.layers:
                mean = (hidden * real).sum(1) / lengths[:, None]
                found[number] = torch.cat([mean, hidden[torch.arange(len(rows), device=device), lengths - 1]], -1)
        return torch.cat([found[number] for number in self.layers], -1).cpu()
