"""A limit is a sample of every part: subjects, languages and tasks keep their shares, and what belongs together stays together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelyard.evals.item import Item


def checked_limit(limit: float) -> float:
    """A number of items, or a share of them below 1. Raises ValueError for anything else."""
    if not 0 < limit < 1 and (limit < 1 or limit != int(limit)):
        raise ValueError(f"limit must be at least 1 and whole, or a share between 0 and 1, got {limit:g}")
    return limit


def sampled(items: Sequence[Item], limit: float | None, seed: int) -> tuple[Item, ...]:
    """At most ``limit`` items, or that share of them: a seeded sample in which every group has its share (largest remainders), in order.

    Items of one unit are taken or left together.

    Raises:
        ValueError: the limit is neither a whole number of at least 1 nor a share between 0 and 1.
    """
    if limit is None or checked_limit(limit) >= len(items):
        return tuple(items)
    units: dict[str | int, list[int]] = {}
    for place, item in enumerate(items):
        units.setdefault(item.unit or place, []).append(place)
    whole = list(units.values())
    limit = int(limit) if limit >= 1 else max(1, round(limit * len(items)))
    if len(whole) < len(items):
        limit = max(1, limit * len(whole) // len(items))
    groups: dict[str, list[int]] = {}
    for number, places in enumerate(whole):
        groups.setdefault(items[places[0]].group, []).append(number)
    exact = {name: limit * len(numbers) / len(whole) for name, numbers in groups.items()}
    counts = {name: int(share) for name, share in exact.items()}
    for name in sorted(groups, key=lambda name: counts[name] - exact[name])[: limit - sum(counts.values())]:
        counts[name] += 1
    generator = np.random.default_rng(seed)
    chosen = {place for name, own in groups.items() for number in generator.permutation(own)[: counts[name]] for place in whole[number]}
    return tuple(item for place, item in enumerate(items) if place in chosen)
