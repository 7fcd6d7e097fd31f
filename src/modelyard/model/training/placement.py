"""A micro-batch as this rank's chunk of a model reads it: filled up to a width, its own positions of each row, on its device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from modelyard.model.network import context
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.network.parallel import Layout
from modelyard.model.training.batch import SEGMENTS, STEM, UNLABELLED, Batch, labelled, segmented, to_device


class Placed(NamedTuple):
    """Rows of S positions, of which this context rank has S'."""

    batch: Batch
    """As it came, on the device: what the loss reads."""
    tokens: Tensor
    """[b, S'] int64."""
    labels: Tensor
    """[b, S'] int64."""
    places: Tensor | slice | None
    """Which labels are asked for (:func:`~modelyard.model.training.batch.labelled`); None where the chunk gives no outputs of labels."""
    positions: Tensor
    """[b, S'] or [1, S'] int64: of each token in its text."""
    mask: Tensor | None
    """Who may see whom, where a row holds several texts."""
    shown: Any
    """The images of the rows; None where there are none or they come in at another stage."""


class Placement(NamedTuple):
    """Where and how micro-batches are put."""

    model: ModelConfig
    layout: Layout
    device: torch.device

    def placed(self, batch: Batch, width: int, *, first: bool, asks: bool) -> Placed:
        """The micro-batch in rows of ``width`` positions; tokens after the last cannot change what stands before them.

        ``first``: the chunk reads tokens and images; ``asks``: it gives outputs of labels.
        """
        length = batch.tokens.shape[1]
        fill = (0, width - length)
        tokens, labels = batch.tokens, batch.labels
        if fill[1]:
            tokens, labels = F.pad(tokens, fill), F.pad(labels, fill, value=UNLABELLED)
        own = context.own_places(width, self.layout.cp, self.layout.cp_rank) if self.layout.cp > 1 else slice(None)
        tokens, labels = tokens[:, own], labels[:, own]
        places = labelled(labels) if asks else None  # known before a GPU has anything to do
        batch, tokens, labels = batch.to(self.device), to_device(tokens, self.device), to_device(labels, self.device)
        places = to_device(places, self.device) if isinstance(places, Tensor) else places
        shown = batch.tiles.widened(fill).shown if batch.tiles and first else None
        if SEGMENTS in batch.extras:
            segments = F.pad(batch.extras[SEGMENTS], fill, value=-1)
            positions, mask = segmented(segments, batch.extras.get(STEM), self.model.variant.window, own)
            positions = positions.clamp(max=self.model.seq_len - 1)  # padding may count on
        else:
            positions, mask = torch.arange(width, device=self.device).clamp_(max=self.model.seq_len - 1)[None, own], None
        return Placed(batch, tokens, labels, places, positions, mask, shown)
