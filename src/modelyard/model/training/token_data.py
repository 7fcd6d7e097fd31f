"""Packed token sequences as batches, and the loss over a held-out set.

A batch is a pure function of its step (:mod:`~modelyard.model.training.sample_order`), so a resumed run goes on where the checkpointed one stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from modelyard.model.training.batch import Batch, LossOutput
from modelyard.model.training.engine import Engine
from modelyard.model.training.sample_order import epoch_indices
from modelyard.stats.estimate import Estimate, bootstrap_mean


class TokenBatches:
    """Batches [batch, S] of a packed array [N, S + 1] (``train.npy``), shuffled anew each epoch."""

    def __init__(self, path: Path, batch: int, seed: int) -> None:
        self.array = np.load(path, mmap_mode="r")
        if self.array.ndim != 2 or len(self.array) == 0:
            raise ValueError(f"{path}: expected packed tokens [N, S + 1] with N > 0, got shape {self.array.shape}")
        self.batch, self.seed = batch, seed

    def indices(self, step: int) -> list[int]:
        """Rows of the array that make up the batch of ``step``."""
        return epoch_indices(len(self.array), self.seed, step * self.batch, self.batch)

    def __call__(self, step: int) -> Batch:
        """The batch of ``step``."""
        return sequences(self.array[self.indices(step)])


def sequences(rows: NDArray[np.uint16]) -> Batch:
    """Packed rows [B, S + 1] -> tokens and next-token labels [B, S]."""
    tokens = torch.from_numpy(rows.astype(np.int64))
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), {})


def language_model_loss(logprobs: torch.Tensor, batch: Batch) -> LossOutput:
    """Mean negative log-likelihood over all positions, in nats a token."""
    return LossOutput(-logprobs.sum(), logprobs.new_full((), logprobs.numel(), dtype=torch.int), {})


def held_out_loss(
    engine: Engine, path: Path, batch: int, seed: int, report: Callable[[int, int], None] = lambda done, total: None
) -> Estimate:
    """Loss in nats a token over every sequence of a packed array, with its interval (bootstrap over sequences)."""
    array = np.load(path)
    losses: list[float] = []
    for start in range(0, len(array), batch):
        output = engine.evaluate(sequences(array[start : start + batch]), max(1, batch // engine.layout.dp))
        losses += (-output.mean(1)).tolist()
        report(len(losses), len(array))
    return bootstrap_mean(losses, seed)
