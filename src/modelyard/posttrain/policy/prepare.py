"""What a policy is trained with: its engines, opened from the SFT and the reward model, and the data that they read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import PromptRecord
from modelyard.formats.token_rows import Rows, TokenRows
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.network.architecture import Head, Precision
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.posttrain.judged.rules import RuleBasedReward, opened_rules
from modelyard.posttrain.policy.config import OnPolicyConfig, PPOConfig
from modelyard.posttrain.policy.prompts import asked
from modelyard.posttrain.policy.rollout import Models, SamplingConfig
from modelyard.posttrain.policy.verified import require_spoken_about


class Training(NamedTuple):
    """The trained engines with the data they read."""

    models: Models
    ema: Engine | None
    """The actor's averaged weights in fp32; None: not averaged."""
    prompts: list[list[int]]
    asked: list[PromptRecord]
    """What ``prompts`` are the tokens of."""
    encoder: Encoder
    rules: RuleBasedReward | None
    """Rule-based rewards; None: the reward model's alone."""
    pretraining: Rows
    sampling: SamplingConfig


def prepare(config: OnPolicyConfig, inputs: Mapping[str, Path], execution: ExecutionConfig) -> Training:
    """Actor, reference and EMA from the SFT model, reward and value (PPO's) from the reward model."""
    steps = config.iterations * config.minibatches

    def opened(role: str, optim: OptimizerConfig | None = None, precision: Precision = config.precision) -> Engine:
        head: Head = "lm" if role == "sft" else "scalar"
        return model_directory.load(
            inputs[role], execution, seed=config.seed, precision=precision, head=head, total_steps=steps, optim=optim
        )

    encoder = Encoder(inputs["sft"])
    for role in ("reward", "tokens"):
        encoder.require_same(role, inputs[role])
    critic = opened("reward", optim=config.value_optimizer) if isinstance(config, PPOConfig) else None
    models = Models(opened("sft", optim=config.optimizer), opened("sft"), opened("reward"), critic)
    prompts, records, sampling = asked(config, inputs["feedback"], encoder, models.actor.model.seq_len)
    require_spoken_about(config.rewards, records)
    return Training(
        models=models,
        ema=opened("sft", precision="fp32") if config.ema_decay else None,
        prompts=prompts,
        asked=records,
        encoder=encoder,
        rules=opened_rules(inputs, execution, models.reference, encoder, records) if "rbrm" in inputs else None,
        pretraining=TokenRows(inputs["tokens"], "train"),
        sampling=sampling,
    )
