"""Training on Transformer Engine's layers: what is built and stored, over a stand-in of the package, and
what is refused in one line without it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from modelyard.execution import ExecutionConfig
from modelyard.model.network import te_layers
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.training import optimizer
from modelyard.model.training.engine import Engine

from . import layout_program as program

CASES = ("llama-tied", "gpt-untied", "llama-variant")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``te_program.py`` prints."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.unit.model.te_program", str(tmp_path_factory.mktemp("te"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("case", CASES)
def test_layer_is_megatrons_fused_one_with_our_attention(found: dict[str, Any], case: str) -> None:
    layers = found["cases"][case]["layers"]
    assert {"TELayerNormColumnParallelLinear", "TERowParallelLinear", "SdpaAttention", "FusedAway"} <= set(layers)
    assert not {"ColumnParallel", "RowParallel", "TEDotProductAttention"} & set(layers)
    names = found["cases"][case]["parameters"]
    for place in ("self_attention.linear_qkv", "mlp.linear_fc1"):
        assert f"decoder.layers.0.{place}.layer_norm_weight" in names
        assert (f"decoder.layers.0.{place}.layer_norm_bias" in names) == (case == "gpt-untied")


@pytest.mark.parametrize("case", CASES)
def test_names_in_a_checkpoint_are_those_of_our_layers(found: dict[str, Any], case: str) -> None:
    fused, plain = found["cases"][case]["keys"]
    assert fused == plain
    assert "decoder.layers.self_attention.linear_qkv.layer_norm_weight" in plain
    assert not [key for key in fused if "_extra_state" in key]


@pytest.mark.parametrize("case", CASES)
def test_training_begins_and_goes_as_on_our_layers(found: dict[str, Any], case: str) -> None:
    fused, plain = found["cases"][case]["metrics"]
    assert plain[2]["loss"] < plain[0]["loss"]
    for ours, theirs in zip(fused, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_checkpoint_is_read_either_way(found: dict[str, Any], case: str) -> None:
    gone_on, resumed, crossed = found["cases"][case]["gone_on"]
    assert resumed == gone_on
    back, plain = found["cases"][case]["back"]
    for ours, theirs in zip((*crossed, *back), (*gone_on, *plain), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_engine_that_trains_nothing_has_our_layers_and_generates(found: dict[str, Any], case: str) -> None:
    one = found["cases"][case]
    assert {"ColumnParallel", "RowParallel"} <= set(one["evaluated_layers"])
    assert one["evaluated"] < 1e-5
    assert one["generates"] == ""


@pytest.mark.parametrize("case", CASES)
def test_engine_that_trains_on_them_is_refused_for_generation(found: dict[str, Any], case: str) -> None:
    refused = found["cases"][case]["refused"]
    assert refused.startswith("a model that is trained on Transformer Engine's layers cannot generate")
    assert "\n" not in refused


@pytest.mark.parametrize("case", CASES)
def test_optimizer_is_torchs_where_the_package_has_one_of_its_own(found: dict[str, Any], case: str) -> None:
    assert found["cases"][case]["optimizer"] == "torch.optim.adamw"


def test_optimizer_is_torchs_whatever_megatron_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from megatron.core import optimizer as megatron
    from megatron.core.optimizer import distrib_optimizer

    monkeypatch.setattr(megatron, "Adam", lambda *_, **__: pytest.fail("an optimizer that divides by no count"))
    monkeypatch.setattr(megatron, "USING_PYTORCH_OPTIMIZER", False)
    monkeypatch.setattr(distrib_optimizer, "HAVE_APEX_OR_TE", True)
    engine = Engine(program.case("llama-tied"), ExecutionConfig(threads=1), seed=0, precision="fp32", optim=program.OPTIMIZER)
    assert type(optimizer.training_parts(engine.optimizer)[0].optimizer) is torch.optim.AdamW


@pytest.mark.parametrize(
    ("name", "recipe", "formats"), [("hybrid-tensorwise", "Float8CurrentScaling", "HYBRID"), ("e4m3-delayed", "DelayedScaling", "E4M3")]
)
def test_fp8_enters_its_recipe_and_learns_nearly_what_bf16_learns(found: dict[str, Any], name: str, recipe: str, formats: str) -> None:
    one = found["fp8"][name]
    assert one["recipes"] == [recipe]
    assert one["formats"] == [formats]
    assert one["fp8"] != one["plain"]
    for rounded, plain in zip(one["fp8"], one["plain"], strict=True):
        assert rounded["loss"] == pytest.approx(plain["loss"], rel=0.05)
    assert one["fp8"][-1]["loss"] < 0.5 * one["fp8"][0]["loss"]


def test_bench_measures_both_where_the_package_is(found: dict[str, Any]) -> None:
    assert "not_run" not in found["bench"]
    assert found["speed"]["tokens_per_s"] > 0
    assert 0 < found["bench"]["largest_gap"] < 0.01
    assert 0 < found["bench"]["mean_difference_of_logprobs_by_our_layers"] < 0.05


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fp8": "hybrid"}, "fp8 'hybrid' needs transformer_engine = true"),
        ({"transformer_engine": True, "device": "cpu"}, "transformer_engine needs GPUs, and device is 'cpu'"),
        ({"transformer_engine": True, "compile": True}, "transformer_engine builds layers that torch.compile does not enter"),
        ({"transformer_engine": True, "fp8": "int8"}, "Input should be 'hybrid' or 'e4m3'"),
        ({"transformer_engine": True, "fp8": "e4m3", "fp8_recipe": "mxfp8"}, "Input should be 'tensorwise' or 'delayed'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_when_they_are_read(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ExecutionConfig(**settings)


FP8 = ExecutionConfig(transformer_engine=True, fp8="hybrid")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, r"model.ffn_hidden gives a rank matrices with sides of 24, and products in fp8 want multiples of 16"),
        ({"hidden": 40, "heads": 4}, r"model.hidden gives a rank matrices with sides of 40"),
    ],
)
def test_sides_that_fp8_does_not_multiply_are_refused(change: dict[str, int], said: str) -> None:
    two = FP8.model_copy(update={"tensor_parallel": 2, "data_parallel": 1})
    model = program.case("llama-tied").model_copy(update=change)
    with pytest.raises(ValueError, match=said):
        model.check_execution(two)
    model.check_execution(two.model_copy(update={"fp8": None}))


@pytest.mark.parametrize(
    ("case", "said"), [("llama-experts", r"experts \(model.moe\)"), ("llama-images", r"a patch encoder \(model.vision\)")]
)
def test_models_with_parts_that_it_lacks_are_refused(case: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"execution.transformer_engine: {said}"):
        program.case(case).check_execution(ExecutionConfig(transformer_engine=True))


def with_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A100")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_process_on_the_cpu_is_refused() -> None:
    model = program.case("llama-tied")
    with pytest.raises(ValueError, match="this process computes on the CPU") as caught:
        Engine(model, ExecutionConfig(threads=1, transformer_engine=True), seed=0, precision="bf16", optim=program.OPTIMIZER)
    assert "\n" not in str(caught.value)
    Engine(model, ExecutionConfig(threads=1, transformer_engine=True), seed=0, precision="bf16")  # trains nothing


def test_package_that_is_missing_is_said_in_one_line_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpu(monkeypatch, (9, 0))
    monkeypatch.setitem(sys.modules, "transformer_engine", None)
    with pytest.raises(ValueError, match=r"it cannot be imported: .*transformer_engine.*; pip install 'modelyard\[te\]'") as caught:
        te_layers.require(FP8, "bf16", None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("capability", "fits"), [((8, 0), False), ((8, 6), False), ((8, 9), True), ((9, 0), True), ((10, 0), True)])
def test_gpus_older_than_fp8_are_refused(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], fits: bool) -> None:
    with_gpu(monkeypatch, capability)
    monkeypatch.setattr(te_layers, "problem", lambda: "")
    te_layers.require(FP8.model_copy(update={"fp8": None}), "bf16", None)
    if fits:
        te_layers.require(FP8, "bf16", None)
        return
    with pytest.raises(ValueError, match=rf"execution.fp8 needs a GPU of compute capability 8.9, and A100 has 8.{capability[1]}"):
        te_layers.require(FP8, "bf16", None)


def test_adapters_and_fp32_are_refused() -> None:
    lora = LoRAConfig(rank=2, alpha=2.0, targets=("q_proj",))
    with pytest.raises(ValueError, match=r"adapters \(lora\) stand on our own layers"):
        te_layers.require(FP8, "bf16", lora)
    with pytest.raises(ValueError, match=r"execution\.fp8 'hybrid' rounds products of bf16, and this stage's precision is 'fp32'"):
        te_layers.require(FP8, "fp32", None)


def test_rows_of_a_context_rank_are_filled_up_for_fp8() -> None:
    for ranks in (1, 2, 3, 16, 32):
        whole = te_layers.row_multiple(64, ranks, FP8)
        assert whole % 64 == 0
        assert whole % (2 * ranks) == 0 or ranks == 1
        assert (whole // ranks) % te_layers.ROWS == 0


def test_nothing_asks_for_the_package_unless_told() -> None:
    shape: ModelConfig = program.case("llama-tied")
    engine = Engine(shape, ExecutionConfig(threads=1), seed=0, precision="fp32", optim=program.OPTIMIZER)
    assert {"ColumnParallel", "RowParallel"} <= {type(module).__name__ for module in engine.gpt.decoder.layers[0].modules()}
