"""What a policy is trained with: its engines, opened from the SFT and the reward model and a teacher of others, and the data that they read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import PromptRecord
from modelyard.formats.teacher import Teacher
from modelyard.formats.token_rows import Rows, TokenRows
from modelyard.judges.open_judge import open_elsewhere
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import Head, Precision
from modelyard.model.subject import Subject
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.posttrain.judged.rules import RuleBasedReward, opened_rules
from modelyard.posttrain.policy.config import OnPolicyConfig, OPDConfig, PPOConfig, RewardedConfig
from modelyard.posttrain.policy.prompts import asked
from modelyard.posttrain.policy.rollout import Draw, Models, SamplingConfig, own
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
    too_long: int = 0
    """Prompts of the feedback that are too long to be among them."""
    teacher: Teacher | None = None
    """Whom a distilled policy learns from."""
    draw: Draw = own
    """Who draws the samples that it is trained on."""


def opened_models(config: OnPolicyConfig, inputs: Mapping[str, Path], execution: ExecutionConfig) -> Models:
    """Actor, reference, reward model and critic; no reward model where its score has no weight.

    With adapters the actor's body is the reference's, and that of reward model and critic where the reward model is adapters on the same weights;
    else these two share the reward model's.
    """
    actor = _opened("sft", config, inputs, execution, optim=config.optimizer, lora=config.lora)
    body = actor if config.lora else None
    reference, critic = _opened("sft", config, inputs, execution, body=body), None
    if not isinstance(config, PPOConfig):
        return Models(actor, reference, _opened("reward", config, inputs, execution, body=body) if config.is_scored else None, critic)
    reward = _opened("reward", config, inputs, execution, body=body)
    below = body if reward.lora else reward if config.lora else None
    critic = _opened("reward", config, inputs, execution, optim=config.value_optimizer, lora=config.lora, body=below)
    return Models(actor, reference, reward if config.is_scored else None, critic)


def averaged(config: OnPolicyConfig, inputs: Mapping[str, Path], execution: ExecutionConfig, actor: Engine) -> Engine:
    """The engine of the actor's averaged weights in fp32, as they are before the first update."""
    if not config.lora:
        return _opened("sft", config, inputs, execution, precision="fp32")
    ema = _opened("sft", config, inputs, execution, precision="fp32", lora=config.lora, body=actor)
    take_average(ema, actor)
    return ema


def _opened(
    role: str,
    config: OnPolicyConfig,
    inputs: Mapping[str, Path],
    execution: ExecutionConfig,
    *,
    optim: OptimizerConfig | None = None,
    precision: Precision | None = None,
    lora: LoRAConfig | None = None,
    body: Engine | None = None,
) -> Engine:
    head: Head = "lm" if role == "sft" else "scalar"
    steps = config.iterations * config.minibatches
    precision = precision or config.precision
    return model_directory.load(
        inputs[role],
        execution,
        seed=config.seed,
        precision=precision,
        head=head,
        total_steps=steps,
        optim=optim,
        lora=lora,
        body=body,
    )


def take_average(actor: Engine, ema: Engine) -> None:
    """Give one engine what another has trained, rounded to its precision: the averaged weights to the actor once it is trained."""
    with torch.no_grad():
        for current, average in zip(actor.trained(), ema.trained(), strict=True):
            current.copy_(average)


def prepare(config: OnPolicyConfig, inputs: Mapping[str, Path], execution: ExecutionConfig) -> Training:
    """Actor, reference and EMA from the SFT model, reward and value (PPO's) from the reward model."""
    encoder = Encoder(inputs["sft"])
    for role in ("reward", "tokens"):
        encoder.require_same(role, inputs[role])
    teacher, who = opened_teacher(config, encoder, execution) if isinstance(config, OPDConfig) else (None, None)
    models = opened_models(config, inputs, execution)._replace(teacher=teacher)
    prompts, records, sampling, too_long = asked(config, inputs["feedback"], encoder, models.actor.model.seq_len)
    if teacher:
        require_room(teacher, max(map(len, prompts)) + config.max_new_tokens)
    if isinstance(config, RewardedConfig):
        require_spoken_about(config.rewards, records)
    return Training(
        models=models,
        ema=averaged(config, inputs, execution, models.actor) if config.ema_decay else None,
        prompts=prompts,
        too_long=too_long,
        asked=records,
        encoder=encoder,
        rules=opened_rules(inputs, execution, models.reference, encoder, records) if "rbrm" in inputs else None,
        pretraining=TokenRows(inputs["tokens"], "train"),
        sampling=sampling._replace(teacher_micro_batch=config.teacher.micro_batch) if isinstance(config, OPDConfig) else sampling,
        teacher=who,
    )


def opened_teacher(config: OPDConfig, encoder: Encoder, execution: ExecutionConfig) -> tuple[Engine, Teacher]:
    """The model of others at this run's layout and the policy's precision, and who it is.

    Raises:
        ValueError: it is not the config's, or its ids would mean other texts.
    """
    teacher = open_elsewhere(config.teacher, execution, config.precision)
    assert isinstance(teacher, Subject)  # no endpoint, which would score nothing that it did not write
    encoder.require_same_vocabulary("teacher", teacher.encoder)
    return teacher.engine, Teacher(name=config.teacher.name, licence=config.teacher.licence, identity=teacher.weights)


def require_room(teacher: Engine, longest: int) -> None:
    """Raise ValueError unless the teacher reads a prompt with its completion of ``longest`` tokens."""
    if longest > teacher.model.seq_len:
        raise ValueError(
            f"teacher: reads {teacher.model.seq_len} tokens, and a prompt with its completion has up to {longest}; "
            "lower policy.max_prompt_tokens or policy.max_new_tokens"
        )
