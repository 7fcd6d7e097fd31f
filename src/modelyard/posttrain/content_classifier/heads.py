"""Small MLPs on a frozen decoder's features, one a category, each ending in a sigmoid (Markov et al. 2022, arXiv:2208.03274, section 3.6).

All heads read the same features: centred, turned to their principal directions and divided by their spread, since a few hundred labels cannot
choose among thousands of correlated numbers. A text of several windows is as harmful as its worst window says, in training as in use. Trained on
all texts at once with AdamW; the same seed gives the same heads. Left out: tuning the decoder, dropout of features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from modelyard.config import Config
from modelyard.posttrain.content_classifier.features import Features, Reals

Labels = npt.NDArray[np.int8]
"""[texts, C]: 1, 0 or -1 for not known."""


class HeadsConfig(Config):
    """Shape and training of the heads."""

    directions: int = Field(default=64, ge=1)
    """Principal directions of the features that are read."""
    hidden: int = Field(default=16, ge=1)
    """Width of each head's one hidden layer."""
    steps: int = Field(default=150, ge=1)
    """Updates, each on all texts."""
    lr: float = Field(default=3e-3, gt=0)
    """Learning rate, falling to zero as a cosine."""
    weight_decay: float = Field(default=0.3, ge=0)
    """AdamW's, the only regularisation beside ``dropout``."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the hidden layer that a step leaves out."""


class Heads(NamedTuple):
    """Trained heads."""

    centre: Reals
    """[d]"""
    basis: Reals
    """[d, k] principal directions over their spread."""
    inner: Reals
    """[C, k, h]"""
    inner_bias: Reals
    """[C, h]"""
    outer: Reals
    """[C, h]"""
    outer_bias: Reals
    """[C]"""

    def logits(self, features: Features) -> npt.NDArray[np.float64]:
        """Log-odds [texts, C] of each text's worst window."""
        reduced = (features.values - self.centre) @ self.basis
        hidden = np.einsum("wk,ckh->wch", reduced, self.inner) + self.inner_bias
        windows = np.einsum("wch,ch->wc", np.tanh(hidden), self.outer) + self.outer_bias
        starts = np.flatnonzero(np.diff(features.owner, prepend=-1))
        return np.maximum.reduceat(windows, starts).astype(np.float64)


def fit(features: Features, labels: Labels, config: HeadsConfig, seed: int) -> Heads:
    """Heads for the columns of ``labels``; unknown labels have no loss."""
    centre, basis = directions(features.values, config.directions)
    reduced = torch.from_numpy((features.values - centre) @ basis)
    generator = torch.Generator().manual_seed(seed)
    known = torch.from_numpy(labels >= 0).float()
    truth = torch.from_numpy(labels).clamp(min=0).float()
    owner, categories, width = torch.from_numpy(features.owner), labels.shape[1], reduced.shape[1]
    inner = torch.randn(categories, width, config.hidden, generator=generator) / width**0.5
    outer = torch.randn(categories, config.hidden, generator=generator) / config.hidden**0.5
    share = (truth * known).sum(0).add(0.5) / known.sum(0).add(1)
    weights = [inner, torch.zeros(categories, config.hidden), outer, torch.logit(share)]
    for tensor in weights:
        tensor.requires_grad_(True)
    groups = [{"params": weights[0::2], "weight_decay": config.weight_decay}, {"params": weights[1::2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for _ in range(config.steps):
        hidden = torch.tanh(torch.einsum("wk,ckh->wch", reduced, weights[0]) + weights[1])
        kept = torch.rand(hidden.shape, generator=generator) >= config.dropout
        windows = torch.einsum("wch,ch->wc", hidden * kept / (1 - config.dropout), weights[2]) + weights[3]
        texts = worst(windows, owner, len(labels))
        loss = (F.binary_cross_entropy_with_logits(texts, truth, reduction="none") * known).sum(0) / known.sum(0).clamp(min=1)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        schedule.step()
    trained = [tensor.detach().numpy() for tensor in weights]
    return Heads(centre, basis, *trained)


def worst(windows: Tensor, owner: Tensor, texts: int) -> Tensor:
    """[windows, C] -> [texts, C]: the largest of each text's."""
    start = windows.new_full((texts, windows.shape[1]), -torch.inf)
    return start.scatter_reduce(0, owner[:, None].expand_as(windows), windows, "amax")


def directions(values: Reals, most: int) -> tuple[Reals, Reals]:
    """Mean [d] of features [n, d], and their first principal directions [d, k], each over its standard deviation."""
    centre = values.mean(0)
    _, spread, turned = np.linalg.svd(values - centre, full_matrices=False)
    k = max(1, min(most, int((spread > spread[0] * 1e-4).sum())))
    return centre, (turned[:k].T * (len(values) ** 0.5 / np.maximum(spread[:k], 1e-9))).astype(np.float32)
