"""Products of bf16 factors are the exact ones rounded once, computed by instructions for bf16 or in fp32, as the processor can."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modelyard.model.inference.attend import added, attend
from modelyard.model.inference.product import Product, SiluGate
from modelyard.model.network import fused, onednn, processor
from modelyard.model.network.attention import SdpaAttention

pytestmark = pytest.mark.numerics

ROUNDED, SUMMED = 2.0**-8, 2.0**-23
"""Half a spacing of bf16, and fp32's epsilon, which bounds what a term adds to the error of a sum."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def assert_rounded_once(found: Tensor, left: Tensor, right: Tensor) -> None:
    """``found`` is left @ right, summed in fp32 in any order and rounded to bf16."""
    assert found.dtype == torch.bfloat16
    exact, size = left.double() @ right.double(), left.double().abs() @ right.double().abs()
    allowed = ROUNDED * exact.abs() + left.shape[-1] * SUMMED * size * (1 + ROUNDED)
    assert ((found.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize(("rows", "width", "out"), [(96, 576, 1536), (5, 33, 17)])
def test_bf16_linear_and_its_gradients_are_exact_products_rounded_once(rows: int, width: int, out: int) -> None:
    x, weight, grad = random(rows, width), random(out, width, seed=1), random(rows, out, seed=2)
    x.requires_grad_(), weight.requires_grad_()
    output = fused.linear(x, weight, None)
    output.backward(grad)
    assert x.grad is not None
    assert weight.grad is not None
    assert_rounded_once(output.detach(), x.detach(), weight.detach().t())
    assert_rounded_once(x.grad, grad, weight.detach())
    assert_rounded_once(weight.grad, grad.t(), x.detach())


@pytest.mark.parametrize(("rows", "width", "out"), [(96, 576, 1536), (1, 576, 192), (5, 33, 17)])
def test_bf16_product_for_inference_is_the_exact_product_rounded_once(rows: int, width: int, out: int) -> None:
    x, weight, bias = random(rows, width), random(out, width, seed=1), random(out, seed=2)
    with torch.inference_mode():
        assert_rounded_once(Product(weight, None, rows)(x), x, weight.t())
        biased = Product(weight, bias, rows)(x)
        assert_rounded_once(biased, torch.cat([x, torch.ones(rows, 1).bfloat16()], 1), torch.cat([weight, bias[:, None]], 1).t())
        assert torch.equal(Product(weight, None, rows)(x), Product(weight, None, rows)(x))


@pytest.mark.parametrize(("dtype", "spacing"), [(torch.float32, 1e-6), (torch.bfloat16, ROUNDED)])
@pytest.mark.parametrize("biased", [False, True])
def test_silu_gate_is_the_gate_times_what_it_lets_through(dtype: torch.dtype, spacing: float, biased: bool) -> None:
    x, linear = random(96, 64).to(dtype), torch.nn.Linear(64, 256, biased)
    linear.to(dtype)
    if not SiluGate.fits(torch.nn.functional.silu, True, linear.weight, dtype, 96):
        assert not onednn.multiplies(x), "a product that oneDNN computes has its gate computed with it"
        pytest.skip("no instructions for this format here")
    with torch.inference_mode():
        found = SiluGate(linear, 96, dtype)(x).double()
    gate, up = torch.nn.functional.linear(x.double(), linear.weight.double(), linear.bias.double() if biased else None).chunk(2, -1)
    exact = torch.nn.functional.silu(gate) * up
    # the gate is rounded, and what it is multiplied with
    assert ((found - exact).abs() <= 2 * spacing * exact.abs() * (1 + spacing) + 64 * SUMMED * (1 + up.abs() + gate.abs()) * 4).all()


def test_attention_of_aligned_keys_is_that_of_the_keys_there_are() -> None:
    query, key, value = (random(2, 21, heads, 16, seed=heads).float() for heads in (6, 2, 3))
    value = value[:, :, :2]
    seen = torch.ones(21, 21, dtype=torch.bool).tril().repeat(2, 1, 1, 1)
    seen[1, 0, :, 3] = torch.arange(21) == 3
    aligned = added(seen, torch.float32)
    assert aligned.shape[-1] == 32
    assert torch.allclose(attend(query, key, value, aligned, 0.25), attend(query, key, value, seen, 0.25), rtol=0, atol=1e-6)


def test_bf16_label_logprobs_and_gradients_are_those_of_exact_products_of_the_same_numbers() -> None:
    hidden, weight = random(40, 64).div(8), random(300, 64, seed=1)
    labels, grad = torch.arange(40) * 7 % 300, torch.linspace(-1, 1, 40)
    exact_hidden, exact_weight = (x.double().requires_grad_() for x in (hidden, weight))
    logits = exact_hidden @ exact_weight.t()
    exact = torch.log_softmax(logits, -1).gather(1, labels[:, None]).squeeze(1)
    exact.backward(grad.double())
    hidden.requires_grad_(), weight.requires_grad_()
    found = fused.label_logprobs(hidden, weight, labels, 300, None)
    found.backward(grad)
    # the label's logit and the normaliser, a mean of logits under their softmax, are each off by a rounding of the largest logit at most
    assert (found.double() - exact).abs().max() <= 2 * ROUNDED * logits.abs().max() * (1 + ROUNDED)
    # slopes: the softmax is off by twice a logit's rounding, and it, its product with the gradient and the result are rounded
    share = 2 * ROUNDED * float(logits.detach().abs().max()) + 3 * ROUNDED
    for ours, theirs in ((hidden.grad, exact_hidden.grad), (weight.grad, exact_weight.grad)):
        assert ours is not None
        assert theirs is not None
        assert (ours.double() - theirs).norm() <= share * theirs.norm()


def test_bf16_attention_in_training_is_that_of_exact_products_within_its_roundings() -> None:
    config = type(
        "Config", (), {"attention_dropout": 0.0, "window_size": None, "context_parallel_size": 1, "window_attn_skip_freq": None}
    )()
    attention = SdpaAttention(config, 1, None, "self", softmax_scale=0.25)
    query, key, value = random(24, 2, 4, 16), random(24, 2, 2, 16, seed=1), random(24, 2, 2, 16, seed=2)
    grad = random(24, 2, 64, seed=3)
    exact = [x.double().requires_grad_() for x in (query, key, value)]
    q, k, v = (x.permute(1, 2, 0, 3) for x in exact)
    scores = q @ k.repeat_interleave(2, 1).transpose(2, 3) * 0.25
    weights = torch.softmax(scores.masked_fill(torch.ones(24, 24).triu(1).bool(), float("-inf")), -1)
    expected = (weights @ v.repeat_interleave(2, 1)).permute(2, 0, 1, 3).reshape(24, 2, 64)
    expected.backward(grad.double())
    for x in (query, key, value):
        x.requires_grad_()
    context = attention(query, key, value, None)
    context.backward(grad)
    assert context.dtype == torch.bfloat16
    # rounded: a score (which moves a weight by that share of its size, twice), the weight, the result
    share = 2 * ROUNDED * float(scores.detach().abs().max()) + 2 * ROUNDED
    assert (context.double() - expected).abs().max() <= share * value.abs().max()
    for ours, theirs in zip((query.grad, key.grad, value.grad), (x.grad for x in exact), strict=True):
        assert ours is not None
        assert theirs is not None
        assert (ours.double() - theirs).norm() <= 2 * share * theirs.norm()  # once more through the scores of the backward pass


@pytest.mark.parametrize(
    ("caps", "expected"),
    [
        ({"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}, "in fp32 torch.float32"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "in fp32 torch.float32"),
        ({"ONEDNN_MAX_CPU_ISA": "avx512_core_vnni"}, "in fp32 torch.float32"),
        ({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}, "in fp32 torch.float32"),
    ],
)
def test_bf16_products_under_a_capped_instruction_set_are_computed_in_fp32(caps: dict[str, str], expected: str) -> None:
    program = (
        "import torch; from modelyard.model.network import onednn, processor; "
        "print(processor.description(), onednn.product_dtype(torch.bfloat16, torch.device('cpu')))"
    )
    environment = {**os.environ, **caps}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout
    assert said.strip().endswith(f"bf16 products {expected}")
    assert onednn.product_dtype(torch.float32, torch.device("cpu")) == torch.float32
    assert onednn.product_dtype(torch.bfloat16, torch.device("cuda")) == torch.bfloat16


def test_processor_multiplies_bf16_where_linux_lists_an_instruction_and_nothing_caps_it() -> None:
    flags = set(Path("/proc/cpuinfo").read_text("utf-8").split())
    able = bool(flags & {"avx512_bf16", "amx_bf16", "bf16"}) and "ONEDNN_MAX_CPU_ISA" not in os.environ
    assert processor.multiplies_bf16() == onednn.BF16 == able
    assert processor.description().endswith("by its own instructions" if able else "in fp32")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_of_an_expert_without_tokens_has_no_rows_and_no_gradient(dtype: torch.dtype) -> None:
    x, weight = torch.zeros(0, 32, dtype=dtype, requires_grad=True), torch.ones(48, 32, dtype=dtype, requires_grad=True)
    output = fused.linear(x, weight, None)
    output.sum().backward()
    assert output.shape == (0, 48)
    assert weight.grad is not None
    assert weight.grad.abs().max() == 0
