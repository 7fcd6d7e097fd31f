"""Packed token rows as batches, and the loss over a held-out set.

Where the artifact keeps documents apart (:mod:`modelyard.formats.token_rows`), a row's documents are as many texts to the engine:
:func:`sequences` is the one way from rows to a batch, for training and measuring alike.

A batch is a pure function of its step (:mod:`~modelyard.model.training.sample_order`), so a resumed run goes on where the checkpointed one stopped.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from modelyard.formats.token_rows import PackedRows, Rows
from modelyard.model.training.batch import SEGMENTS, Batch, LossOutput
from modelyard.model.training.engine import Engine
from modelyard.model.training.sample_order import epoch_indices
from modelyard.stats.estimate import Estimate, bootstrap_mean


class TokenBatches:
    """Batches [batch, S] of packed rows, shuffled anew each epoch."""

    def __init__(self, rows: Rows, batch: int, seed: int) -> None:
        self.rows, self.batch, self.seed = rows, batch, seed

    def indices(self, step: int) -> list[int]:
        """Rows that make up the batch of ``step``."""
        return epoch_indices(len(self.rows), self.seed, step * self.batch, self.batch)

    def __call__(self, step: int) -> Batch:
        """The batch of ``step``."""
        return sequences(self.rows[self.indices(step)])


def sequences(rows: PackedRows) -> Batch:
    """Packed rows of S + 1 tokens -> tokens and next-token labels [B, S], and the segments where documents are kept apart."""
    tokens = torch.from_numpy(rows.tokens.astype(np.int64))
    texts = {} if rows.documents is None else {SEGMENTS: torch.from_numpy(rows.documents[:, :-1].astype(np.int64))}
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), texts)


def language_model_loss(logprobs: torch.Tensor, batch: Batch) -> LossOutput:
    """Mean negative log-likelihood over all positions, in nats a token."""
    return LossOutput(-logprobs.sum(), logprobs.new_full((), logprobs.numel(), dtype=torch.int), {})


def held_out_loss(
    engine: Engine, rows: Rows, batch: int, seed: int, report: Callable[[int, int], None] = lambda done, total: None
) -> Estimate:
    """Loss in nats a token over every packed row, with its interval (bootstrap over rows)."""
    losses: list[float] = []
    for start in range(0, len(rows), batch):
        output = engine.evaluate(sequences(rows[start : start + batch]), max(1, batch // engine.layout.dp))
        losses += (-output.mean(1)).tolist()
        report(len(losses), len(rows))
    return bootstrap_mean(losses, seed)
