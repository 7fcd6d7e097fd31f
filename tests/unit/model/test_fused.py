"""Fused operations against plain torch: values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from modelyard.model.network import attention, fused

pytestmark = pytest.mark.numerics


def problem() -> tuple[torch.Tensor, ...]:
    """Hidden [13, 8], weight [50, 8] whose last three rows are padding, labels [13], and what the loss does with each log-probability."""
    torch.manual_seed(0)
    hidden, weight = (torch.randn(shape) for shape in ((13, 8), (50, 8)))
    return hidden.requires_grad_(), weight.requires_grad_(), torch.randint(0, 47, (13,)), torch.randn(13)


def reference(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return -F.cross_entropy((hidden @ weight[:47].t()).float(), labels, reduction="none")


@pytest.mark.parametrize("kept", [0, 1 << 31])
@pytest.mark.parametrize("elements", [13, 13 * 7, 1 << 21])
def test_label_logprobs_against_cross_entropy_are_equal(monkeypatch: pytest.MonkeyPatch, kept: int, elements: int) -> None:
    monkeypatch.setitem(fused.KEPT_BYTES, "cpu", kept)
    monkeypatch.setitem(fused.PIECE_ELEMENTS, "cpu", elements)
    hidden, weight, labels, coefficient = problem()
    ours, theirs = fused.label_logprobs(hidden, weight, labels, 47, None), reference(hidden, weight, labels)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad((ours * coefficient).sum(), (hidden, weight)),
        torch.autograd.grad((theirs * coefficient).sum(), (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_label_logprobs_of_a_token_without_probability_are_finite() -> None:
    hidden, weight = torch.tensor([[1.0]], requires_grad=True), torch.tensor([[300.0], [0.0]], requires_grad=True)
    logprobs = fused.label_logprobs(hidden, weight, torch.tensor([1]), 2, None)
    torch.testing.assert_close(logprobs, torch.tensor([-300.0]))
    torch.testing.assert_close(torch.autograd.grad(logprobs.sum(), hidden)[0], torch.tensor([[-300.0]]))


def test_label_logprobs_in_bf16_keep_a_confident_tokens_gradient() -> None:
    # p(label) = 0.9998: the gradient at the label is 1 - p, which bf16 would round away had it been computed from p
    hidden = torch.tensor([[1.0]], dtype=torch.bfloat16, requires_grad=True)
    weight = torch.tensor([[8.5], [0.0]], dtype=torch.bfloat16, requires_grad=True)
    gradient = torch.autograd.grad(fused.label_logprobs(hidden, weight, torch.tensor([0]), 2, None).sum(), weight)[0]
    torch.testing.assert_close(gradient[0].float(), torch.tensor([1 - torch.sigmoid(torch.tensor(8.5))]), rtol=1e-2, atol=0)


@pytest.mark.parametrize("rows", [1, 2])
def test_rotary_against_megatrons_unfused_is_equal(rows: int) -> None:
    from megatron.core.models.common.embeddings.rope_utils import _apply_rotary_pos_emb_bshd

    torch.manual_seed(0)
    x, angles, gradient = torch.randn(5, 2, 3, 8, requires_grad=True), torch.randn(5, rows, 1, 4), torch.randn(5, 2, 3, 8)
    freqs = torch.cat((angles, angles), -1)
    ours, theirs = fused.rotary(x, fused.rotary_factors(freqs, x.dtype)), _apply_rotary_pos_emb_bshd(x, freqs)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, x, gradient)[0], torch.autograd.grad(theirs, x, gradient)[0])


@pytest.mark.parametrize("masked", [False, True])
def test_materialised_attention_against_flash_is_equal(masked: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 6, 4, requires_grad=True) for heads in (6, 2, 2))
    mask = (torch.rand(2, 1, 6, 6) < 0.5).logical_or_(torch.eye(6, dtype=torch.bool)) if masked else None
    ours = attention._MaterialisedAttention.apply(query, key, value, 0.3, mask)
    theirs = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=not masked, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(ours, theirs)
    gradient = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, (query, key, value), gradient), torch.autograd.grad(theirs, (query, key, value), gradient), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
