"""Bins of a figure: joined until each has enough predictions, and nothing of what they say is lost."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.stats.calibration import joined, reliability


@pytest.mark.parametrize("n", [1, 9, 10, 42, 300])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_joined_bins_have_enough_and_are_the_means_of_what_lies_between_their_edges(n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    p = generator.beta(0.7, 0.7, n)
    hit = generator.random(n) < p
    bins = joined(reliability(p.tolist(), hit.tolist()), 10)
    assert sum(b.n for b in bins) == n
    assert all(b.n >= min(10, n) for b in bins)
    for b in bins:
        inside = (p > b.low) & (p <= b.high)
        assert (b.n, b.confidence, b.accuracy) == (inside.sum(), pytest.approx(p[inside].mean()), pytest.approx(hit[inside].mean()))


def test_bins_that_have_enough_stay_as_they_are() -> None:
    whole = reliability([0.05] * 10 + [0.55] * 12, [False] * 10 + [True] * 12)
    assert joined(whole, 10) == [b for b in whole if b.n]
