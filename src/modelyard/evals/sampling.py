"""A limit is a sample of every part: subjects, languages and tasks keep their shares, and what belongs together stays together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modelyard.evals.item import Item


def checked_limit(limit: float) -> float:
    """A number of items, or a share of them below 1. Raises ValueError for anything else."""
    if not 0 < limit < 1 and (limit < 1 or limit != int(limit)):
        raise ValueError(f"limit must be at least 1 and whole, or a share between 0 and 1, got {limit:g}")
    return limit


def sampled(items: Sequence[Item], limit: float | None, seed: int) -> tuple[Item, ...]:
    """At most ``limit`` items, or that share of them: a seeded sample in which every group has its share (largest remainders), in order.

    Items of one unit are taken or left together. Where there are as many units as groups, every group has one at least.

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
    counts = shares({name: len(numbers) for name, numbers in groups.items()}, limit)
    generator = np.random.default_rng(seed)
    chosen = {place for name, own in groups.items() for number in generator.permutation(own)[: counts[name]] for place in whole[number]}
    return tuple(item for place, item in enumerate(items) if place in chosen)


def shares(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """``total`` split over groups by their sizes (largest remainders, ties in order); none is left empty where there is one for each."""
    exact = {name: total * size / sum(sizes.values()) for name, size in sizes.items()}
    counts = {name: int(share) for name, share in exact.items()}
    for name in sorted(sizes, key=lambda name: counts[name] - exact[name])[: total - sum(counts.values())]:
        counts[name] += 1
    for name in [name for name, count in counts.items() if not count and total >= len(sizes)]:
        counts[max((one for one in counts if counts[one] > 1), key=lambda one: counts[one] - exact[one])] -= 1
        counts[name] = 1
    return counts
