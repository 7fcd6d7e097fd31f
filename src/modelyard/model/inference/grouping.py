"""Which prompts are continued together.

A batch is read at once, shorter prompts with padding before them, and goes on token by token. Batches are cut where that costs least: a step of n
sequences costs what reading the weights does, which is as much as so many more sequences, plus n; a token of padding costs what a sequence's step
does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

READING = {"cpu": 16, "cuda": 512}
"""Device -> sequences whose products cost as much as reading the weights once. On two CPU cores 10 for 135M parameters, more for fewer."""


CACHE = {"cpu": 2**30, "cuda": 2**33}
"""Device -> bytes that the keys and values of a batch may take, where nobody says how many sequences it may have."""
MOST = {"cpu": 256, "cuda": 1024}
"""Device -> sequences of such a batch, at most: more no longer share enough to be worth their wait for each other."""


def most_rows(bytes_a_token: int, length: int, device: str) -> int:
    """How many sequences of ``length`` tokens, whose keys and values are ``bytes_a_token`` each, are decoded at once; one at least."""
    return max(1, min(MOST[device], CACHE[device] // (bytes_a_token * length)))


def groups(lengths: Sequence[int], most: int, new: int, reading: int) -> list[list[int]]:
    """Indices of the prompts of each batch, shortest first.

    Args:
        lengths: tokens of each prompt.
        most: prompts of a batch, at most.
        new: tokens that are drawn after each.
        reading: see :data:`READING`.
    """
    order = np.argsort(lengths, kind="stable")
    ordered = np.asarray(lengths)[order]
    cost, begin = np.zeros(len(order) + 1), np.zeros(len(order) + 1, int)
    tokens = np.concatenate([[0], np.cumsum(ordered)])
    for end in range(1, len(order) + 1):
        first = np.arange(max(0, end - most), end)
        padding = ordered[end - 1] * (end - first) - (tokens[end] - tokens[first])
        total = cost[first] + new * (reading + end - first) + padding
        begin[end] = first[total.argmin()]
        cost[end] = total.min()
    found: list[list[int]] = []
    end = len(order)
    while end:
        found.append(order[begin[end] : end].tolist())
        end = begin[end]
    return found[::-1]
