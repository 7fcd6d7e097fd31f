"""Memory that ``modelyard check`` shows of a stage: what adapters save, how many bodies a policy needs, and how many rows a comparison takes."""

from pathlib import Path

import pytest

from flows.pipeline_config import PipelineConfig, load_pipeline
from modelyard.formats.feedback import Comparison
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.plan.memory import Split, adapter_parameters
from modelyard.posttrain.reward import RewardConfig, batches
from modelyard.posttrain.rows.comparison_rows import Encoded
from tasks.stage_memory import base_model, peak_bytes, rows_of_comparison

PIPELINES = Path(__file__).parents[2] / "configs" / "pipeline"
TINY_LORA = str(PIPELINES / "tiny-lora.toml")
SECOND = (
    "sft_start={seed=1,precision='fp32',epochs=1,batch=40,micro_batch=40,pretraining_share=0.1,pack=false,dropout=0.0,keep_epochs=false,"
)
SECOND += "optimizer={lr=1e-3,min_lr_ratio=1,warmup_steps=0,weight_decay=0,beta1=0.9,beta2=0.9,eps=1e-8,clip_grad=1,schedule='constant'}}"


def policy_bytes(*overrides: str) -> int:
    config = load_pipeline(TINY_LORA, overrides)
    return peak_bytes("policy", config, base_model(config)) or 0


def test_ppo_by_adapters_counts_its_bodies_and_no_more_than_adapters_are_updated() -> None:
    config = load_pipeline(TINY_LORA, [])
    model = base_model(config)
    assert model is not None
    assert config.policy.lora is not None
    adapters, body = adapter_parameters(model, Split(1, 1, 1), config.policy.lora), model.parameters()
    one = policy_bytes()
    # an average of the policy's weights in fp32 is one more set of adapters
    assert policy_bytes("policy.ema_decay=0.9") - one == 4 * adapters
    # a second SFT model is where the policy starts from, and not what the reward model stands on
    assert policy_bytes(SECOND) - one == 4 * body
    whole = load_pipeline(TINY_LORA, ["policy.algorithm=ppo"]).model_copy(
        update={"policy": config.policy.model_copy(update={"lora": None})}
    )
    full = peak_bytes("policy", whole, model) or 0
    weights, updated = 4 * (4 * body - (body + 3 * adapters)), 2 * 12 * (body - adapters)
    activations = full - one - weights - updated  # frozen norms keep less, the columns between A and B are kept beside
    assert 0 < activations < 0.35 * full


@pytest.mark.parametrize("stage", ["sft", "reward"])
def test_stage_by_adapters_needs_less_than_all_weights_do(stage: str) -> None:
    config = load_pipeline(TINY_LORA, [])
    whole = config.model_copy(update={stage: getattr(config, stage).model_copy(update={"lora": None})})
    by_adapters, full = (peak_bytes(stage, one, base_model(one)) for one in (config, whole))
    assert by_adapters is not None
    assert full is not None
    assert by_adapters < full


def test_policy_by_comparisons_counts_what_it_is_measured_with_beside_its_optimizer() -> None:
    def bytes_of(*overrides: str) -> tuple[int, PipelineConfig, ModelConfig]:
        config = load_pipeline(str(PIPELINES / "tiny-dpo.toml"), ["policy.max_tokens=8", "policy.micro_batch=4", *overrides])
        model = base_model(config)
        assert model is not None
        return peak_bytes("policy", config, model) or 0, config, model

    found, _, model = bytes_of()
    assert found == (3 * 4 + 4 + 8) * model.parameters(), (
        "policy, reference and reward model, gradients, two moments; training 8 tokens has less"
    )
    adapted, config, _ = bytes_of("policy.lora={rank=4,alpha=8.0,targets=['q_proj']}")
    assert config.policy is not None
    assert config.policy.lora is not None
    adapters = adapter_parameters(model, Split(1, 1, 1), config.policy.lora)
    assert adapted == 2 * 4 * model.parameters() + (2 * 4 + 4 + 8) * adapters, (
        "the reward model, all weights of its own, stands on another body"
    )
    wide, _, _ = bytes_of("policy.max_tokens=128", "policy.micro_batch=64")
    assert wide > found, "with long rows training is the peak"


def encoded(prompt: int, answer: int, completions: int) -> Encoded:
    """A comparison of as long texts as it may have."""
    fields = {"id": "c", "split": "reward", "source": "s", "prompt": "p", "rater": "r", "completions": [f"{i}" for i in range(completions)]}
    comparison = Comparison.model_validate({**fields, "ranks": range(1, completions + 1)})
    return Encoded(comparison, [[0] * prompt + [1 + i] * answer for i in range(completions)])


def smollm2() -> ModelConfig:
    shape = {"layers": 30, "hidden": 576, "heads": 9, "kv_heads": 3, "ffn_hidden": 1536, "seq_len": 2048, "vocab_size": 49152}
    more = {"tie_embeddings": True, "rope_base": 1e5, "norm_eps": 1e-5, "init_std": 0.02}
    return ModelConfig.model_validate({"style": "llama", **shape, **more})


@pytest.mark.parametrize(
    ("name", "width", "prompt", "answer", "completions", "rows"),
    [("tiny", 128, 0, 128, 4, 4), ("smollm2-gpu", 1024, 512, 256, 9, 3), ("smollm2", 192, 96, 32, 4, 2)],
)
@pytest.mark.parametrize("stage", ["reward", "gold"])
def test_reward_model_counts_the_rows_that_its_longest_comparisons_take(
    stage: str, name: str, width: int, prompt: int, answer: int, completions: int, rows: int
) -> None:
    config = load_pipeline(str(PIPELINES / f"{name}.toml"), [])
    table = config.of(stage)
    assert isinstance(table, RewardConfig)
    assert rows_of_comparison(config, table, width) == rows
    data = batches([encoded(prompt, answer, completions)] * table.batch, table, smollm2(), 0, 1)
    tokens = data.micro_batch * data.batch(0).tokens.shape[1]
    assert 0 <= rows * table.micro_batch * width - tokens < table.micro_batch * width
