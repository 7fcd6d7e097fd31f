"""How much memory a stage takes on one rank at the peak of a step, by the counts of :mod:`modelyard.model.plan.memory`.

SFT, both reward models and a policy that learns from comparisons train one model; the last has reference and reward model beside its optimizer when
it is measured in the end. A policy that samples has them beside it on every rank, as weights, PPO a value model with gradients and optimizer of its
own, and an average of the policy's weights where one is kept. With adapters, models on one body count it once, and only adapters have gradients and
optimizer. Left out: the teacher of a distilled policy, whose shape no config says, rankings of more completions in files, what scoring and sampling
keep (so ``execution.offload_optimizer``, which leaves them more room, changes nothing here), masks, buffers of collectives and the process itself, so
each number is a lower bound.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from modelyard.config import Config
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.execution import ExecutionConfig
from modelyard.model.hf.shape import shape_of
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.plan.memory import FP32, Memory, Schedule, Split, element_bytes, peak_memory
from modelyard.model.training.recipe import Recipe
from modelyard.posttrain.judged.ai_feedback import AIFeedbackConfig
from modelyard.posttrain.judged.candidates import SampledConfig
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
        case SFTConfig():
            return _trained(_shortened(model, table.max_tokens), table, execution).total
        case RewardConfig():
            shown = _shortened(model, table.max_tokens)
            return _trained(shown, table, execution, rows_of_comparison(config, table, shown.seq_len)).total
        case PreferenceConfig():
            one = _trained(_shortened(model, table.max_tokens), table, execution)
            return max(one.total, _held(model, table, config, one) + one.gradients + one.optimizer)
        case OnPolicyConfig():
            width = table.max_prompt_tokens + table.max_new_tokens if table.max_prompt_tokens else None
            return _sampling(_shortened(model, width), table, config)
    return None


def rows_of_comparison(config: LineConfig, table: RewardConfig, width: int) -> int:
    """Rows of ``width`` tokens that the completions of the largest comparison of ``table``'s split take."""
    found, feedback, made = [COMPLETIONS], config.of("feedback"), config.of("ai_feedback")
    if isinstance(feedback, FeedbackConfig) and feedback.votes:
        found.append(feedback.votes.completions)
    if isinstance(made, AIFeedbackConfig):
        if made.rankings:
            found.append(_rows_of_samples(made.rankings, made.rankings.max_prompt_tokens, width))
        if made.rlaif and table.split == "reward":
            found.append(_rows_of_samples(made.rlaif, 0, width))
    return max(found)


def _rows_of_samples(config: SampledConfig, prompt: int, width: int) -> int:
    """Rows for the samples of a prompt of so many tokens at most: as many tokens as the row that shares the prompt, where a row each has more."""
    answer = min(config.max_new_tokens, width)
    together = min(prompt, width - answer) + config.samples * answer
    return min(config.samples, math.ceil(together / width))


def _sampling(model: ModelConfig, table: OnPolicyConfig, config: LineConfig) -> int:
    """Actor, reference, reward model, critic and average of a policy that samples; a critic is of the policy's or the reward model's rank."""
    one, trained = _trained(model, table, config.execution), 2 if isinstance(table, PPOConfig) else 1
    average = FP32 // element_bytes(table.precision) if table.ema_decay else 0
    updated = trained * (one.gradients + one.optimizer) + one.activations + one.logits
    return _held(model, table, config, one, trained + average) + updated


def _held(model: ModelConfig, table: OnPolicyConfig | PreferenceConfig, config: LineConfig, one: Memory, copies: int = 1) -> int:
    """Weights of reference and reward model, and of so many ``copies`` of the policy."""
    if table.lora is None:
        return (2 + copies) * one.weights
    body = _trained(model, table.model_copy(update={"lora": None}), config.execution).weights
    bodies = 1 if one_body(config) else 2
    return bodies * body + (1 + copies) * (one.weights - body)


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
