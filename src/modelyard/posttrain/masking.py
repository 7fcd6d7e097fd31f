"""Which positions are trained on: completion tokens only, never the prompt, never the padding.

Position ``t`` of a row holds input token ``t`` and predicts label ``t``, which is token ``t + 1``; a mask is therefore aligned with
labels. It is true exactly where the label belongs to the completion, the closing token included. InstructGPT (arXiv:2203.02155, appendix
C.1) trains on demonstrations; that the prompt's tokens carry no loss is the field's practice, the paper is silent. Left out: packing of
several examples in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from modelyard.model.engine import UNLABELLED


class Example(NamedTuple):
    """One prompt with its completion, as token ids."""

    prompt: list[int]
    completion: list[int]


class Rows(NamedTuple):
    """Examples as rectangles, all [B, S]."""

    tokens: Tensor
    """int64 input tokens, padded on the right."""
    labels: Tensor
    """int64 next tokens; ``UNLABELLED`` where the mask is 0, so that no logits are computed there."""
    mask: Tensor
    """float32, 1 where the label is a completion token."""


def pad_examples(examples: Sequence[Example], pad_id: int, length: int | None = None) -> Rows:
    """Rows of width ``length`` (default: just wide enough for the longest example).

    Raises:
        ValueError: no examples, an empty prompt or completion, or an example that needs more than ``length`` positions.
    """
    if not examples:
        raise ValueError("a batch needs at least one example")
    longest = max(len(example.prompt) + len(example.completion) for example in examples) - 1
    width = longest if length is None else length
    if longest > width:
        raise ValueError(f"an example needs {longest} positions, a row has {width}")
    padded = torch.full((len(examples), width + 1), pad_id, dtype=torch.int64)
    mask = torch.zeros(len(examples), width)
    for row, (prompt, completion) in enumerate(examples):
        if not prompt or not completion:
            raise ValueError(f"example {row}: prompt and completion need at least one token each")
        end = len(prompt) + len(completion)
        padded[row, :end] = torch.tensor(prompt + completion)
        mask[row, len(prompt) - 1 : end - 1] = 1.0
    return Rows(padded[:, :-1].contiguous(), padded[:, 1:].masked_fill(mask == 0, UNLABELLED), mask)


def last_positions(mask: Tensor) -> Tensor:
    """[B, S] -> [B]: index of the last true position of every row; raises ValueError for a row without one."""
    if not bool(mask.bool().any(dim=1).all()):
        raise ValueError("a row has no completion position")
    positions = torch.arange(mask.shape[1], device=mask.device)
    return (mask.bool() * positions).argmax(dim=1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` is true; what stands elsewhere, NaN included, is never read."""
    return masked_sum(values, mask) / mask.sum()


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of ``values`` (any shape) weighted by ``mask`` (same shape); where it is 0 the value, NaN included, is never read."""
    return (torch.where(mask.bool(), values, torch.zeros_like(values)) * mask).sum()


def pad_documents(documents: Sequence[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Whole texts as input: tokens [B, S] int64 padded on the right, and mask [B, S] float32, 1 on their tokens.

    Raises:
        ValueError: no documents or an empty one.
    """
    if not documents or not all(documents):
        raise ValueError("every document needs at least one token")
    width = max(len(document) for document in documents)
    tokens = torch.full((len(documents), width), pad_id, dtype=torch.int64)
    mask = torch.zeros(len(documents), width)
    for row, document in enumerate(documents):
        tokens[row, : len(document)] = torch.tensor(document)
        mask[row, : len(document)] = 1.0
    return tokens, mask
