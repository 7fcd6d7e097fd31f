"""Memory that ``modelyard check`` shows of a stage: what adapters save, and how many bodies a policy that samples needs."""

from pathlib import Path

import pytest

from flows.pipeline_config import load_pipeline
from modelyard.model.plan.memory import Split, adapter_parameters
from tasks.stage_memory import base_model, peak_bytes

TINY_LORA = str(Path(__file__).parents[2] / "configs" / "pipeline" / "tiny-lora.toml")
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
