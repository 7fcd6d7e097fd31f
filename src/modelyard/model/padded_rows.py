"""Rows of token ids of any lengths, as rectangles of like lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def batches(rows: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Indices in batches of at most ``size`` rows of like length: the longest is at most a third and 16 tokens longer than the shortest, so that
    little of what is computed is padding."""
    found: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: len(rows[i])):
        if not found or len(found[-1]) == size or len(rows[i]) > len(rows[found[-1][0]]) * 4 / 3 + 16:
            found.append([])
        found[-1].append(i)
    return found


def pad(rows: Sequence[Sequence[int]], padding: int) -> torch.Tensor:
    """Token ids [B, S] int64, padded on the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
