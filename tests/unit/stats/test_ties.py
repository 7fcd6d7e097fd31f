"""Scores that are equal but for rounding tie, others do not, whatever the format and the container."""

import numpy as np
import pytest
import torch

from modelyard.stats.ties import Format, preferred


@pytest.mark.parametrize(
    ("first", "second", "precision", "expected"),
    [
        (0.25, 0.25, "fp32", 0.5),
        (0.3543233573436737, 0.3543233275413513, "fp32", 0.5),  # one text in two rows of a batch
        (-0.0006770119, -0.0006770156, "fp32", 0.5),  # near 0 the error is that of the sum's terms
        (1.0001, 1.0, "fp32", 1.0),
        (1.0, 1.0001, "fp32", 0.0),
        (1000.001, 1000.0, "fp32", 0.5),
        (1.0001, 1.0, "bf16", 0.5),
        (1.05, 1.0, "bf16", 1.0),
        (1.0, 1.05, "bf16", 0.0),
    ],
)
def test_preferred_score_within_rounding_is_a_tie(first: float, second: float, precision: Format, expected: float) -> None:
    assert preferred(first, second, precision) == expected
    assert preferred(second, first, precision) == 1 - expected
    assert preferred(torch.tensor([first]), torch.tensor([second]), precision).tolist() == [expected]
    assert preferred(np.array([first]), np.array([second]), precision).tolist() == [expected]


def test_preferred_sums_in_another_order_tie() -> None:
    """4,096 products, the longest reduction that the bound is made for, added from either end."""
    generator = np.random.default_rng(0)
    for size in (1e-3, 1.0):
        terms = (generator.normal(0, size / 64, (200, 4096))).astype(np.float32)
        forward, backward = (np.cumsum(each, 1, dtype=np.float32)[:, -1].astype(np.float64) for each in (terms, terms[:, ::-1]))
        assert (forward != backward).any()
        assert (preferred(forward, backward, "fp32") == 0.5).all()
        assert (preferred(forward, forward + 1e-3 * (1 + size), "fp32") == 0.0).all()
