"""Attention that leaves out what a mask hides is attention with that mask, in both directions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from modelyard.model.network import masked_attention
from modelyard.model.network.attention import layer_mask
from modelyard.model.network.masked_attention import PiecewiseAttention, pieces_of
from modelyard.model.training.batch import segmented

pytestmark = pytest.mark.numerics

LENGTH = 200
"""Of a row: no multiple of a piece."""


def texts(*lengths: int) -> Tensor:
    """[LENGTH]: which text each position belongs to; what is left is padding."""
    owners = [number for number, length in enumerate(lengths) for _ in range(length)]
    return torch.tensor(owners + [-1] * (LENGTH - len(owners)))


ROWS = torch.stack([texts(30, 40, 35, 45, 50), texts(30, 41, 1, 70, 12)])


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize(("stem", "window"), [(None, None), (30, None), (None, 20), (30, 20)])
def test_pieces_give_what_the_whole_gives_and_teach_the_same(stem: int | None, window: int | None, groups: int) -> None:
    """``stem``: the first text is what all others go on from."""
    _, masks = segmented(ROWS, None if stem is None else torch.full((2,), stem), window)
    mask = layer_mask(masks, window, 2, LENGTH, ROWS.device)
    assert mask is not None
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, LENGTH, 16, requires_grad=True) for heads in (4, groups, groups))
    pieces = pieces_of(mask, query.dtype)
    assert pieces is not None
    assert pieces_of(mask, query.dtype) is pieces, "layers that have a mask in common ask once"

    whole = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True)
    found = PiecewiseAttention.apply(query, key, value, pieces, 0.3)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)
    grad = torch.randn_like(whole)
    expected = torch.autograd.grad(whole, (query, key, value), grad)
    torch.testing.assert_close(torch.autograd.grad(found, (query, key, value), grad), expected, rtol=1e-5, atol=1e-6)


def test_pieces_see_all_that_a_query_sees_and_are_left_where_that_is_nearly_everything() -> None:
    _, mask = segmented(ROWS)
    pieces = pieces_of(mask, torch.float32)
    assert pieces is not None
    assert sum(piece.mask.numel() for piece in pieces) < 0.5 * mask.numel()
    assert sum(int((piece.mask == 0).sum()) for piece in pieces) == int(mask.sum())
    one_text = torch.zeros(1, masked_attention.PIECE, dtype=torch.int64)
    assert pieces_of(segmented(one_text)[1], torch.float32) is None
