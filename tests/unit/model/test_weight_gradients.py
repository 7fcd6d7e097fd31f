"""Weight gradients that products add to their sums are those that autograd and DDP would have added."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from modelyard.execution import ExecutionConfig
from modelyard.model.network import onednn, weight_gradients
from modelyard.model.network.grouped_experts import GroupedLinear
from modelyard.model.network.model_config import Precision
from modelyard.model.training.engine import Engine

from . import layout_program as program

pytestmark = pytest.mark.numerics


def gradients(case: str, precision: Precision) -> dict[str, Tensor]:
    """Of four micro-batches, summed."""
    part = program.SEEING.get(case.split("-")[1], "language")
    settings = {"optim": program.OPTIMIZER, "total_steps": 3, "lora": program.adapters_of(case), "part": part}
    engine = Engine(program.case(case), ExecutionConfig(threads=1), seed=3, precision=precision, **settings)  # type: ignore[arg-type]
    engine.train_step(program.batch_of(program.case(case)), 2, program.masked_loss)
    return {name: value.main_grad.clone() for name, value in engine.gpt.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", ["llama-tied", "llama-variant", "llama-adapters", "llama-images", "llama-experts", "gpt-untied"])
def test_gradients_added_by_products_are_those_that_autograd_hands_over(
    monkeypatch: pytest.MonkeyPatch, case: str, precision: Precision
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(weight_gradients, "sum_of", lambda weight: None)
        patched.setattr(weight_gradients, "expect", lambda weights: None)
        expected = gradients(case, precision)
    given = []
    # what autograd gets instead would spoil every sum that it came into
    monkeypatch.setattr(weight_gradients, "unread", lambda weight: given.append(weight) or torch.full_like(weight, float("nan")))
    found = gradients(case, precision)
    assert bool(given) == (case != "llama-adapters")
    for name, sums in expected.items():
        # autograd's are rounded to the weights' precision, a micro-batch's at a time; those of a tied embedding are added in another order
        allowed = 2.0**-8 if precision == "bf16" else 1e-6 if "word_embeddings" in name else 0.0
        assert (found[name] - sums).norm() <= allowed * sums.norm(), name


@pytest.mark.parametrize("instructions", [True, False])
def test_bf16_gradients_of_a_cpu_are_added_in_fp32_and_rounded_only_by_its_own_instructions(
    monkeypatch: pytest.MonkeyPatch, instructions: bool
) -> None:
    monkeypatch.setattr(onednn, "BF16", instructions)
    generator = torch.Generator().manual_seed(0)
    grad, x = (torch.randn(64, width, generator=generator).bfloat16() for width in (24, 40))
    total = torch.randn(24, 40, generator=generator)
    exact, size = total.double() + grad.double().t() @ x.double(), grad.double().abs().t() @ x.double().abs() + total.abs()
    weight_gradients.add(total, grad, x)
    allowed = 2.0**-8 if instructions else 66 * 2.0**-23
    assert ((total - exact).abs() <= allowed * size).all()
    assert ((total - exact).abs() > 66 * 2.0**-23 * size).any() == instructions


def test_bf16_gradients_of_a_gpu_are_added_by_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[torch.dtype, torch.dtype, torch.dtype]] = []

    def addmm(total: Tensor, left: Tensor, right: Tensor, *, out_dtype: torch.dtype, out: Tensor) -> Tensor:
        assert out is total
        assert left.shape == (24, 64)
        called.append((left.dtype, right.dtype, out_dtype))
        return total

    monkeypatch.setattr(torch, "addmm", addmm)
    with FakeTensorMode():
        total = torch.zeros(24, 40, device="cuda")
        grad, x = (torch.zeros(64, width, dtype=torch.bfloat16, device="cuda") for width in (24, 40))
        weight_gradients.add(total, grad, x)
    assert called == [(torch.bfloat16, torch.bfloat16, torch.float32)]


def expert_gradients(pieces: list[tuple[Tensor, Tensor, list[int]]], weight: Tensor, summing: bool) -> Tensor:
    """What is in the sum of a layer of experts after these micro-batches of rows, gradients and counts: added by its products, or as DDP adds
    what autograd hands over."""
    layer = object.__new__(GroupedLinear)
    torch.nn.Module.__init__(layer)
    layer.weight = torch.nn.Parameter(weight.clone())
    total = torch.zeros(weight.shape)
    if summing:
        layer.weight.main_grad = total
    for x, grad, counts in pieces:
        layer(x, torch.tensor(counts).cumsum(0).int(), counts).backward(grad)
        if not summing:
            assert layer.weight.grad is not None
            total += layer.weight.grad
        layer.weight.grad = None
    return total


def test_bf16_gradients_of_experts_are_summed_in_fp32_as_those_of_linear_layers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "BF16", False)  # its own instructions round what they multiply
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 24, 16, generator=generator).bfloat16()
    pieces = []
    for counts in ([5, 0, 30, 1], [0, 0, 0, 36], [9, 9, 9, 9], [0, 0, 0, 0]):
        x, grad = (torch.randn(sum(counts), width, generator=generator).bfloat16() for width in (16, 24))
        pieces.append((x, grad, counts))
    exact, size = torch.zeros(2, 4, 24, 16, dtype=torch.float64)
    for x, grad, counts in pieces:
        for expert, (rows, slopes) in enumerate(zip(x.double().split(counts), grad.double().split(counts), strict=True)):
            exact[expert] += slopes.t() @ rows
            size[expert] += slopes.abs().t() @ rows.abs()
    error = (expert_gradients(pieces, weight, summing=True) - exact).abs()
    assert (error <= 80 * 2.0**-24 * size).all()
    rounded = (expert_gradients(pieces[:3], weight, summing=False) - exact).abs()
    assert rounded.max() > 100 * error.max(), "autograd's are rounded to bf16, a micro-batch's at a time"
