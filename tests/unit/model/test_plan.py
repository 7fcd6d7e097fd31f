"""The planner's counts against real engines and published models, its layouts, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from modelyard.config import load_config
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.network.processor import multiplies_bf16
from modelyard.model.plan import memory
from modelyard.model.plan.layout_search import Machine, PlanConfig, layouts
from modelyard.model.plan.memory import Schedule, Split
from modelyard.model.plan.planning import GIB, PlanError, plan, text

from . import memory_program

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs" / "model"
# Activations are what autograd keeps; the rest (rotary tables, token ids) is small where models are not as tiny as these.
ACTIVATION_TOLERANCE = 0.05


def model(style: str, **change: Any) -> ModelConfig:
    shape = {
        "style": style,
        "layers": 4,
        "hidden": 64,
        "heads": 8,
        "kv_heads": 4,
        "ffn_hidden": 176,
        "seq_len": 64,
        "vocab_size": 512,
        "tie_embeddings": style == "gpt",
        "rope_base": 10000.0,
        "norm_eps": 1e-5,
        "init_std": 0.02,
    }
    return ModelConfig.model_validate({**shape, **change})


class Case(NamedTuple):
    """An engine to build: tensor, pipeline, data, expert and context parallel sizes, the stage of the rank to look at, recomputation."""

    model: ModelConfig
    precision: Any
    sizes: tuple[int, ...] = (1, 1, 1, 1)
    stage: int = 0
    recompute: Any = "none"
    lora: LoRAConfig | None = None


EXPERTS = {"experts": 4, "top_k": 2, "aux_loss": 0.01}
ADAPTERS = LoRAConfig(rank=4, alpha=8.0, targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
VARIANT = {"qkv_bias": True, "qk_norm": True}
CASES = [
    Case(model("llama"), "fp32"),
    Case(model("llama"), "fp32", lora=ADAPTERS),
    Case(model("llama", tie_embeddings=True), "bf16", (2, 2, 2, 1), 1, lora=ADAPTERS),
    Case(model("llama", tie_embeddings=True), "bf16"),
    Case(model("llama", kv_heads=8, layers=2), "bf16"),
    Case(model("gpt"), "fp32"),
    Case(model("gpt", tie_embeddings=False, kv_heads=8), "bf16"),
    Case(model("llama", moe=EXPERTS), "bf16"),
    Case(model("gpt", moe=EXPERTS), "fp32"),
    Case(model("llama"), "bf16", recompute="full"),
    Case(model("llama"), "bf16", (2, 1, 4, 1)),
    Case(model("gpt", vocab_size=509), "fp32", (2, 1, 1, 1)),
    Case(model("llama"), "bf16", (2, 2, 2, 1)),
    Case(model("llama", kv_heads=1), "bf16", (2, 1, 1, 1)),
    Case(model("llama", kv_heads=2), "fp32", (4, 1, 1, 1), lora=ADAPTERS),
    Case(model("llama", tie_embeddings=True), "fp32", (2, 2, 2, 1), 1),
    Case(model("gpt"), "bf16", (4, 2, 1, 1), 1),
    Case(model("llama", moe=EXPERTS), "bf16", (2, 2, 2, 4)),
    Case(model("llama", moe=EXPERTS), "fp32", (1, 1, 4, 2)),
    Case(model("llama", moe=EXPERTS), "bf16", (2, 1, 2, 1)),
    Case(model("llama", variant=VARIANT), "bf16", (2, 2, 2, 1), 1),
    Case(model("llama", tie_embeddings=True), "bf16", (1, 1, 2, 1, 2)),
    Case(model("llama", moe=EXPERTS), "fp32", (2, 1, 1, 2, 2)),
]


@pytest.fixture(scope="module")
def measured() -> list[dict[str, int]]:
    """What real engines of CASES hold."""
    cases = [
        {**case._asdict(), "model": case.model.model_dump(), "lora": case.lora and case.lora.model_dump(), "micro_batch": 2}
        for case in CASES
    ]
    done = subprocess.run(
        [sys.executable, memory_program.__file__, json.dumps(cases)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_memory_against_a_real_engine_is_exact_and_activations_close(measured: list[dict[str, int]], number: int) -> None:
    case, real = CASES[number], measured[number]
    split = Split(*case.sizes)
    counted = memory.rank_memory(case.model, split, Schedule(2, 1, 1, case.recompute), case.precision, case.stage, lora=case.lora)
    adapters = memory.adapter_parameters(case.model, split, case.lora) if case.lora else 0
    assert sum(memory.stage_parameters(case.model, split, case.stage)) + adapters == real["parameters"]
    assert (counted.weights, counted.gradients) == (real["weights"], real["gradients"])
    # a replica's share of the optimizer is cut from a flat buffer that is padded by up to 128 elements
    assert abs(real["optimizer"] - counted.optimizer) <= 2 * 128 * memory.optimizer_bytes(case.precision)
    if case.precision == "bf16" and not multiplies_bf16():
        return  # attention then computes in fp32 here and keeps copies of what it reads, which no machine that is planned for does
    if case.sizes[1:] == (1, 1, 1) or case.sizes[0] * case.sizes[3] == 1:
        # the layer that is computed again is counted and not kept; the kept probabilities are counted as logits: no activation of autograd's
        again = (
            2 * case.model.seq_len * memory.layer_activations(case.model, case.sizes[0], case.precision) if case.recompute == "full" else 0
        )
        assert counted.activations - again == pytest.approx(real["activations"], rel=ACTIVATION_TOLERANCE)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_checkpoint_share_against_what_a_real_rank_writes_is_its_cut_of_the_flat_buffer(
    measured: list[dict[str, int]], number: int
) -> None:
    case, real = CASES[number], measured[number]
    counted = memory.checkpoint_bytes(case.model, Split(*case.sizes), case.precision, case.stage, case.lora)
    assert abs(real["checkpoint"] - counted) <= 2 * 128 * (memory.optimizer_bytes(case.precision) + memory.element_bytes(case.precision))


@pytest.mark.parametrize("style", ["llama", "gpt"])
@pytest.mark.parametrize("tied", [True, False])
def test_stage_parameters_over_all_stages_are_the_model(style: str, tied: bool) -> None:
    shape = model(style, tie_embeddings=tied)
    whole = sum(sum(memory.stage_parameters(shape, Split(1, 4, 1), stage)) for stage in range(4))
    copied = shape.vocab_size * shape.hidden if tied else 0  # the last stage has a copy of a tied embedding
    assert whole - copied == shape.parameters()


def published(
    style: str,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    ffn: int,
    vocab: int,
    seq: int,
    tied: bool,
    moe: Any = None,
    **more: Any,
) -> ModelConfig:
    shape = {"layers": layers, "hidden": hidden, "heads": heads, "kv_heads": kv_heads, "ffn_hidden": ffn, "vocab_size": vocab}
    return model(style, **shape, seq_len=seq, tie_embeddings=tied, moe=moe, **more)


@pytest.mark.parametrize(
    ("shape", "total", "tolerance"),
    [
        (published("gpt", 96, 12288, 96, 96, 49152, 50257, 2048, True), 175_000_000_000, 0.01),  # GPT-3 (Brown et al. 2020)
        (published("gpt", 12, 768, 12, 12, 3072, 50257, 1024, True), 124_439_808, 0),  # GPT-2 small
        (published("gpt", 48, 1600, 25, 25, 6400, 50257, 1024, True), 1_557_611_200, 0),  # GPT-2 XL
        (published("llama", 32, 4096, 32, 32, 11008, 32000, 4096, False), 6_738_415_616, 0),  # Llama 2 7B
        (published("llama", 32, 4096, 32, 8, 14336, 128256, 8192, False), 8_030_261_248, 0),  # Llama 3 8B
        (published("llama", 24, 896, 14, 2, 4864, 151936, 32768, True, variant={"qkv_bias": True}), 494_032_768, 0),  # Qwen 2.5 0.5B
        (published("llama", 28, 1024, 16, 8, 3072, 151936, 40960, True, head_dim=128, variant={"qk_norm": True}), 596_049_920, 0),  # Qwen 3
        (published("llama", 18, 2048, 8, 1, 16384, 256000, 8192, True, head_dim=256), 2_506_172_416, 0),  # Gemma 2B
    ],
)
def test_parameters_of_published_models(shape: ModelConfig, total: int, tolerance: float) -> None:
    assert shape.parameters() == pytest.approx(total, rel=tolerance, abs=0)


def test_parameters_of_mixtral_8x7b_total_and_active() -> None:
    # Jiang et al. 2024: 47B, of which a token uses 13B
    mixtral = published("llama", 32, 4096, 32, 8, 14336, 32000, 32768, False, {"experts": 8, "top_k": 2, "aux_loss": 0.02})
    assert mixtral.parameters() == 46_702_792_704
    assert mixtral.parameters(active=True) == 12_879_925_248


def test_plan_of_a_mixture_shares_its_experts_out() -> None:
    config = load_config(PlanConfig, CONFIGS / "moe-1.8t.toml")
    result = plan(config, Machine(gpus=8192, memory_gib=80))
    assert 1.7e12 < result.parameters < 1.9e12
    assert result.active_parameters < 0.2 * result.parameters
    assert result.expert_parallel > 1
    assert (result.tensor_parallel * result.data_parallel) % result.expert_parallel == 0


def test_plan_of_gpt3_takes_the_published_time() -> None:
    # Narayanan et al. 2021, section 5.1: 300B tokens on 1024 A100 of 80 GiB at 140 TFLOP/s, a quarter of it recomputation, in about 34 days
    config = load_config(PlanConfig, CONFIGS / "gpt3-175b.toml")
    result = plan(config, Machine(gpus=1024, memory_gib=80, peak_tflops=312, mfu=140 * 3 / 4 / 312))
    bubble = (result.pipeline_parallel - 1) / (result.microbatches + result.pipeline_parallel - 1)
    assert result.bubble == bubble
    assert result.days * (1 - bubble) * (3 / 4 if result.recompute == "full" else 1) == pytest.approx(34, rel=0.03)


def test_plan_fits_and_divides_what_it_lays_out() -> None:
    config = load_config(PlanConfig, CONFIGS / "gpt3-175b.toml")
    machine = Machine(gpus=512, memory_gib=80)
    result = plan(config, machine)
    assert result.tensor_parallel * result.pipeline_parallel * result.data_parallel == 512
    assert result.data_parallel * result.microbatches * result.micro_batch == config.batch
    assert result.tensor_parallel <= machine.gpus_per_node
    assert result.total_bytes + result.free_bytes == int((machine.memory_gib - machine.reserve_gib) * GIB)
    assert result.free_bytes >= 0
    config.model.check_layout(result.tensor_parallel, result.pipeline_parallel)
    fitting = [c for c in layouts(config, machine) if c.memory.total <= (machine.memory_gib - machine.reserve_gib) * GIB]
    assert max(candidate.utilisation for candidate in fitting) == result.utilisation


def test_plan_with_context_ranks_gives_each_its_share_of_a_row() -> None:
    config = load_config(PlanConfig, CONFIGS / "llama-1.3b.toml")
    result = plan(config, Machine(gpus=16, memory_gib=80, context=2))
    assert result.context_parallel == 2
    assert result.tensor_parallel * result.pipeline_parallel * result.context_parallel * result.data_parallel == 16
    assert result.data_parallel * result.microbatches * result.micro_batch == config.batch
    assert f" x CP 2 x DP {result.data_parallel} on 16 GPUs" in text(config, Machine(gpus=16, memory_gib=80, context=2), result)
    split = Split(result.tensor_parallel, result.pipeline_parallel, result.data_parallel, 1, 2)
    schedule = Schedule(result.micro_batch, result.microbatches, 1, result.recompute)
    assert result.total_bytes == memory.peak_memory(config.model, split, schedule, config.precision).total
    with pytest.raises(PlanError, match="tensor x pipeline x context 3 x data must be 16"):
        plan(config, Machine(gpus=16, memory_gib=80, context=3))


def test_schedule_holds_micro_batches_of_the_stages_behind() -> None:
    plain, chunked = Schedule(1, 32, 1, "none"), Schedule(1, 32, 2, "none")
    assert [memory.in_flight(Split(1, 4, 1), plain, stage) for stage in range(4)] == [4, 3, 2, 1]
    assert memory.in_flight(Split(1, 4, 1), Schedule(1, 2, 1, "none"), 0) == 2
    # Korthikanti et al. 2022, section 4.2.3: interleaving holds 1 + (p - 1) / (p v) times as much
    assert memory.in_flight(Split(1, 4, 1), chunked, 0) == 4 * (1 + 3 / (4 * 2))


def test_plan_says_what_a_checkpoint_takes_of_a_node_at_the_rates_given() -> None:
    config = load_config(PlanConfig, CONFIGS / "llama-1.3b.toml")
    result = plan(config, Machine(gpus=8, memory_gib=80, copy_gib_per_second=20, disk_gib_per_second=2))
    assert result.checkpoint_bytes == result.parameters * 14  # bf16 weights; fp32 weights and moments
    assert result.checkpoint_rank_bytes * 8 == result.checkpoint_node_bytes
    # eight ranks cut it among them but for what tensor-parallel ranks copy of each other
    assert result.checkpoint_bytes <= result.checkpoint_node_bytes <= 1.01 * result.checkpoint_bytes + 14 * 8
    assert result.checkpoint_held_seconds == result.checkpoint_rank_bytes / GIB / 20
    assert result.checkpoint_write_seconds == result.checkpoint_node_bytes / GIB / 2


@pytest.mark.parametrize("rate", ["copy_gib_per_second", "disk_gib_per_second"])
def test_machine_without_a_rate_is_refused(rate: str) -> None:
    with pytest.raises(ValueError, match="copy_gib_per_second and disk_gib_per_second must be positive"):
        Machine.model_validate({"gpus": 8, "memory_gib": 80, rate: 0})


def test_plan_that_does_not_fit_says_how_much_is_missing() -> None:
    config = load_config(PlanConfig, CONFIGS / "gpt3-175b.toml")
    with pytest.raises(
        PlanError, match=r"do not fit 8 GPUs of 80 GiB: the leanest layout \(TP 8 x PP 1 x DP 1, recompute full\) needs .* missing"
    ):
        plan(config, Machine(gpus=8, memory_gib=80))


def test_plan_with_an_indivisible_number_of_gpus_says_what_must_divide() -> None:
    config = load_config(PlanConfig, CONFIGS / "gpt3-175b.toml")
    with pytest.raises(PlanError, match="no layout of 7 GPUs divides evenly"):
        plan(config, Machine(gpus=7, memory_gib=80))
