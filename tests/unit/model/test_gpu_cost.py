"""How often a step on a GPU makes the host wait, how many operations it launches, and that its ways compute
what the CPU's compute.

On a GPU that is pretended (:mod:`pretended_gpu` says what that leaves out); ``test_step_cost.py`` counts the
CPU's ways. ``make gpu-proof`` times a real one.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from modelyard.execution import ExecutionConfig
from modelyard.model.inference.generate import Generation, generate
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training.batch import Batch, LossFn, LossOutput, to_device
from modelyard.model.training.engine import GPU_WIDTHS, Engine

from . import layout_program as program
from .decoded_models import MODELS
from .pretended_cuda import pretended
from .pretended_gpu import DEVICE, OnGpu, on_gpu, on_host

OF_A_LAYER = {"llama-tied": 40, "gpt-untied": 40, "llama-variant": 82, "llama-experts": 108}
"""Operations of a layer's forward and backward pass in bf16, and of its update."""
OF_A_TOKEN = 14
"""Operations of a decoding step that is one graph, sampling among them, whatever the layers."""
SHARED_OUT = {"masked_select": 2, "to": 2}
"""For what the host waits in a layer with experts, in each micro-batch: it asks how many tokens each has."""


class Counts(NamedTuple):
    launched: Counter[str]
    waited: Counter[str]


def of_layers(case: str, layers: int) -> ModelConfig:
    return program.case(case).model_copy(update={"layers": layers, "seq_len": GPU_WIDTHS})


def batch_of(shape: ModelConfig) -> Batch:
    """8 rows; with experts of a width that a GPU does not fill up, which would count in their balancing
    loss."""
    return program.batch(GPU_WIDTHS) if shape.moe else program.batch()


def made(shape: ModelConfig, precision: Precision = "bf16") -> Engine:
    return Engine(shape, ExecutionConfig(threads=1), seed=0, precision=precision, optim=program.OPTIMIZER, total_steps=4)


def second_step(
    monkeypatch: pytest.MonkeyPatch, case: str, layers: int = 2, micro_batch: int = 8, loss: LossFn = program.masked_loss
) -> Counts:
    """What the second step of a model of ``layers`` layers costs on 8 rows."""
    shape = of_layers(case, layers)
    with pretended(monkeypatch) as gpu:
        engine = made(shape)
        engine.train_step(batch_of(shape), micro_batch, loss)
        with gpu.counts():
            engine.train_step(batch_of(shape), micro_batch, loss)
        assert all(isinstance(parameter, OnGpu) for parameter in engine.gpt.parameters())
    return Counts(gpu.launched, gpu.waited)


def test_pretended_gpu_computes_and_refuses_what_a_gpu_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended(monkeypatch) as gpu, gpu.counts():
        there, here = torch.tensor([1.0, 2.0], device="cuda"), torch.tensor([3.0, 4.0])
        assert there.device == DEVICE
        assert (there * 2).device == DEVICE
        with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
            there + here
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            there.numpy()
        assert (there + here.to(there.device)).tolist() == [4.0, 6.0]
        assert float(there.sum()) == 3.0
        assert gpu.waited == {"tolist": 1, "_local_scalar_dense": 1}
        assert there.cpu().device.type == "cpu"
        there[there > 1]
        here.copy_(there)
        assert gpu.waited == {"tolist": 1, "_local_scalar_dense": 1, "cpu": 1, "index": 1, "copy_": 1}


def test_batch_whose_elements_share_their_memory_reaches_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.arange(4).expand(3, -1)
    with pretended(monkeypatch):
        assert on_host(to_device(rows, torch.device("cuda"))).tolist() == rows.tolist()


def test_pretended_gradients_are_real(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(6.0).view(2, 3)
    with pretended(monkeypatch):
        there = on_gpu(x.clone()).requires_grad_()
        (there.square().sum() * 2).backward()
        assert isinstance(there.grad, OnGpu)
    assert torch.equal(on_host(there.grad), 4 * x)


@pytest.mark.parametrize(
    ("case", "precision"),
    [("llama-tied", "fp32"), ("llama-tied", "bf16"), ("llama-variant", "fp32"), ("gpt-untied", "fp32"), ("llama-experts", "fp32")],
)
def test_steps_on_the_gpus_ways_are_the_cpus(monkeypatch: pytest.MonkeyPatch, case: str, precision: Precision) -> None:
    shape = of_layers(case, 2)
    with pretended(monkeypatch):
        found, there = trained(shape, precision)
        there = {name: on_host(gradient) for name, gradient in there.items()}
    wanted, here = trained(shape, precision)
    assert wanted[2]["loss"] < wanted[0]["loss"]
    close = 1e-4 if precision == "fp32" else 2e-2
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours == pytest.approx(theirs, rel=close)
    whole = torch.stack([gradient.norm() for gradient in here.values()]).norm()
    for name, gradient in here.items():
        assert (there[name] - gradient).norm() < close * whole, name


def trained(shape: ModelConfig, precision: Precision) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Metrics of three steps, and the gradients of the first."""
    engine, metrics = made(shape, precision), []
    for _ in range(3):
        metrics.append(engine.train_step(batch_of(shape), 4, program.masked_loss))
        if len(metrics) == 1:
            gradients = {name: parameter.main_grad.clone() for name, parameter in engine.gpt.named_parameters()}
    return metrics, gradients


@pytest.mark.parametrize("case", ["llama-tied", "llama-variant", "gpt-untied"])
@pytest.mark.parametrize(("layers", "micro_batch"), [(2, 8), (4, 2)])
def test_host_waits_for_a_steps_metrics_and_its_norm_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch, case: str, layers: int, micro_batch: int
) -> None:
    assert second_step(monkeypatch, case, layers, micro_batch).waited == {"on_host": 2}


@pytest.mark.parametrize(("layers", "micro_batch"), [(2, 8), (4, 2)])
def test_host_waits_for_experts_as_often_as_when_it_was_counted(monkeypatch: pytest.MonkeyPatch, layers: int, micro_batch: int) -> None:
    times = layers * (8 // micro_batch)
    waited = second_step(monkeypatch, "llama-experts", layers, micro_batch).waited
    assert waited == {"on_host": 2, **{name: count * times for name, count in SHARED_OUT.items()}}


def test_loss_that_reads_a_number_is_seen_to_wait_in_every_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def reading(output: Tensor, part: Batch) -> LossOutput:
        float(output.detach().sum())
        return program.masked_loss(output, part)

    assert second_step(monkeypatch, "llama-tied", 2, 2, reading).waited == {"on_host": 2, "_local_scalar_dense": 4}


@pytest.mark.parametrize("case", OF_A_LAYER)
def test_layer_launches_no_more_operations_than_when_they_were_counted(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    few, many = second_step(monkeypatch, case, 2), second_step(monkeypatch, case, 4)
    launched = (sum(many.launched.values()) - sum(few.launched.values())) / 2
    assert launched <= OF_A_LAYER[case], many.launched - few.launched


def test_update_is_as_few_operations_whatever_the_layers_and_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many, pieces = (second_step(monkeypatch, "llama-tied", *sizes).launched for sizes in ((2, 8), (4, 8), (2, 2)))
    for name in ("_fused_adamw_", "_foreach_norm", "_foreach_copy_"):
        assert few[name] == many[name] == pieces[name] > 0
    assert few["copy_"] == many["copy_"]


def test_step_on_a_gpu_packs_nothing_for_onednn_and_compiles_the_passes_over_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = second_step(monkeypatch, "llama-tied").launched
    assert not launched.keys() & {"_linear_pointwise", "_reorder_linear_weight", "product", "packed_product"}
    assert launched["compiled"] > 0
    assert launched["addmm"] > 0, "weight gradients are added by the product that makes them"


def lengthened(shape: ModelConfig) -> ModelConfig:
    return shape.model_copy(update={"seq_len": GPU_WIDTHS})


def generated(shape: ModelConfig, new_tokens: int, stops: tuple[int, ...] = ()) -> Generation:
    engine = Engine(shape, ExecutionConfig(threads=1), seed=0, precision="fp32")
    return generate(engine, program.PROMPTS, max_new_tokens=new_tokens, temperature=1.0, seed=3, stop_ids=stops)


def cost_of_a_token(monkeypatch: pytest.MonkeyPatch, shape: ModelConfig, stops: tuple[int, ...] = ()) -> tuple[Counter[str], Counter[str]]:
    """What 16 more tokens launch, and what the host waits for."""
    found = []
    for new_tokens in (4, 20):
        with pretended(monkeypatch) as gpu, gpu.counts():
            generated(shape, new_tokens, stops)
        found.append(gpu)
    few, many = found
    return many.launched - few.launched, many.waited - few.waited


@pytest.mark.parametrize("name", MODELS)
def test_tokens_drawn_on_the_gpus_ways_are_the_cpus(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    shape = lengthened(MODELS[name])
    with pretended(monkeypatch):
        there = generated(shape, 20)
    here = generated(shape, 20)
    assert len(set(here.tokens[0])) > 5
    assert there.tokens == here.tokens
    for ours, theirs in zip(there.logprobs, here.logprobs, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(("name", "layers"), [("llama", 4), *((name, 2) for name in MODELS)])
def test_decoding_step_is_one_graph_and_a_few_operations_whatever_the_layers(
    monkeypatch: pytest.MonkeyPatch, name: str, layers: int
) -> None:
    launched, waited = cost_of_a_token(monkeypatch, lengthened(MODELS[name]).model_copy(update={"layers": layers}))
    assert launched["graph"] == 16
    assert sum(launched.values()) <= 16 * OF_A_TOKEN, launched
    assert not waited


def test_host_asks_once_in_sixteen_steps_whether_all_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    _, waited = cost_of_a_token(monkeypatch, of_layers("llama-tied", 2), stops=(program.ODD_VOCABULARY,))
    assert waited == {"_local_scalar_dense": 1}
