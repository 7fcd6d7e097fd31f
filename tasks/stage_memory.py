"""How much memory a stage takes on one rank at the peak of a step, by the counts of :mod:`modelyard.model.plan.memory`.

SFT, both reward models and a policy that learns from comparisons train one model. A policy that samples has reference and reward model beside it on
every rank, as weights, PPO a value model with gradients and optimizer of its own, and an average of the policy's weights where one is kept. With
adapters, models on one body count it once, and only adapters have gradients and optimizer. Left out: the teacher of a distilled policy, whose shape
no config says, what scoring and sampling keep (so ``execution.offload_optimizer``, which leaves them more room, changes nothing here), masks, buffers
of collectives and the process itself, so each number is a lower bound.
"""

from __future__ import annotations

from typing import Any, Literal

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.model.hf.shape import shape_of
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.plan.memory import FP32, Memory, Schedule, Split, element_bytes, peak_memory
from modelyard.model.training.recipe import Recipe
from modelyard.posttrain.policy.config import OnPolicyConfig, PPOConfig
from modelyard.posttrain.preference.config import PreferenceConfig
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.sft import SFTConfig
from modelyard.pretrain.continued import ContinueConfig
from modelyard.pretrain.import_model import ImportedModel
from modelyard.scaling.ladder import ScalingConfig
from modelyard.store.inputs import find_input
from tasks.line_config import ALONE, LineConfig

COMPLETIONS = 2
"""Rows of a comparison, at least."""


def peak_bytes(stage: str, config: LineConfig, model: ModelConfig | None) -> int | None:
    """Bytes of a rank; None for a stage that trains nothing and where the shape ``model`` of the base model is not known."""
    table, execution = config.of(stage), config.execution
    if isinstance(table, ScalingConfig):
        alone = execution.model_copy(update=ALONE)
        return max(_trained(recipe.model, recipe, alone).total for recipe in table.recipes)
    if isinstance(table, Recipe):
        return _trained(table.model, table, execution).total
    if model is None:
        return None
    match table:
        case ContinueConfig():
            return _trained(model, table, execution).total
        case SFTConfig() | RewardConfig():
            rows = COMPLETIONS if isinstance(table, RewardConfig) else 1
            return _trained(_shortened(model, table.max_tokens), table, execution, rows).total
        case PreferenceConfig():
            return _trained(_shortened(model, table.max_tokens), table, execution).total
        case OnPolicyConfig():
            width = table.max_prompt_tokens + table.max_new_tokens if table.max_prompt_tokens else None
            return _sampling(_shortened(model, width), table, config)
    return None


def _sampling(model: ModelConfig, table: OnPolicyConfig, config: LineConfig) -> int:
    """Actor, reference, reward model, critic and average of a policy that samples; a critic is of the policy's or the reward model's rank."""
    one, trained = _trained(model, table, config.execution), 2 if isinstance(table, PPOConfig) else 1
    updated = trained * (one.gradients + one.optimizer) + one.activations + one.logits
    average = FP32 // element_bytes(table.precision) if table.ema_decay else 0
    if table.lora is None:
        return (2 + trained + average) * one.weights + updated
    body = _trained(model, table.model_copy(update={"lora": None}), config.execution).weights
    bodies = 1 if one_body(config) else 2
    return bodies * body + (1 + trained + average) * (one.weights - body) + updated


def one_body(config: LineConfig) -> bool:
    """Whether reward model and critic stand on the policy's body: the reward model is adapters on the model that the policy starts from."""
    reward = config.of("reward")
    others = ("selection", "sft_start")
    return isinstance(reward, RewardConfig) and reward.lora is not None and not any(config.of(stage) for stage in others)


def base_model(config: LineConfig) -> ModelConfig | None:
    """Shape of the base model; None where its files are not there or are none that we run."""
    base: Config | None = config.of("base") or config.of("imported")
    if isinstance(base, Recipe):
        return base.model
    if not isinstance(base, ImportedModel):
        return None
    try:
        model = shape_of(find_input(base.path, config.execution.roots, "base.path"))
    except ValueError:
        return None
    return model.model_copy(update={"seq_len": min(base.seq_len, model.seq_len)})


def _shortened(model: ModelConfig, width: int | None) -> ModelConfig:
    """The model on rows of at most ``width`` tokens."""
    return model.model_copy(update={"seq_len": min(width, model.seq_len)}) if width else model


def _trained(model: ModelConfig, table: Any, execution: ExecutionConfig, rows: int = 1) -> Memory:
    """A model in training, with ``table``'s precision, adapters and micro-batch of so many rows an item."""
    precision: Precision = table.precision
    split = Split(
        execution.tensor_parallel,
        execution.pipeline_parallel,
        execution.data_parallel,
        execution.expert_parallel,
        execution.context_parallel,
    )
    items = getattr(table, "batch", None) or table.minibatch
    microbatches = max(1, items // (table.micro_batch * split.data))
    recompute: Literal["none", "full"] = "full" if execution.recompute == "full" else "none"
    schedule = Schedule(table.micro_batch * rows, microbatches, execution.virtual_pipeline, recompute)
    return peak_memory(model, split, schedule, precision, lora=getattr(table, "lora", None))
