"""Policies that sample, with random weights and random prompts: what the benches of speed and memory train."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.trl_peer import END, PAD
from modelyard.execution import ExecutionConfig
from modelyard.formats.token_rows import PackedRows
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.posttrain.policy.config import GRPOConfig, OnPolicyConfig, PPOConfig
from modelyard.posttrain.policy.prepare import Training
from modelyard.posttrain.policy.rollout import Models, SamplingConfig

EPISODES, NEW_TOKENS, GROUP = 32, 48, 8
OPTIMIZER = OptimizerConfig(
    lr=1e-4, min_lr_ratio=1.0, warmup_steps=0, weight_decay=0.0, beta1=0.9, beta2=0.999, eps=1e-8, clip_grad=1.0, schedule="constant"
)
SHARED = {
    "seed": 0,
    "iterations": 1,
    "episodes": EPISODES,
    "minibatches": 1,
    "micro_batch": EPISODES,
    "max_new_tokens": NEW_TOKENS,
    "temperature": 1.0,
    "kl_coef": 0.05,
    "kl_stop": 1e9,
    "on_kl_stop": "error",
    "clip_range": 0.2,
    "ptx_coef": 0.0,
    "ptx_rows": 0,
    "ema_decay": 0.0,
    "final_episodes": 1,
    "final_rows": 1,
    "optimizer": OPTIMIZER,
}
"""One minibatch of all episodes, as TRL is told."""


def ppo_config(precision: Precision, **changes: object) -> PPOConfig:
    """PPO without pretraining text, which TRL has not."""
    own = {"algorithm": "ppo", "gae_lambda": 0.95, "value_clip_range": 0.2, "value_optimizer": OPTIMIZER}
    return PPOConfig.model_validate({**SHARED, **own, "precision": precision, **changes})


def grpo_config(precision: Precision, **changes: object) -> GRPOConfig:
    """GRPO as published, four prompts of eight completions each."""
    own = {"algorithm": "grpo", "group": GROUP, "scale": "group", "mean": "sequence"}
    return GRPOConfig.model_validate({**SHARED, **own, "precision": precision, **changes})


def training_of(config: OnPolicyConfig, model: ModelConfig, execution: ExecutionConfig, prompts: list[list[int]]) -> Training:
    """The models that ``config``'s algorithm has (and the average, where it has one) with random weights, as ``policy.prepare`` makes them from
    files: with adapters, all on one body."""
    steps = config.iterations * config.minibatches

    def engine(
        head: str,
        optim: OptimizerConfig | None = None,
        precision: Precision = config.precision,
        lora: LoRAConfig | None = config.lora,
        body: Engine | None = None,
    ) -> Engine:
        return Engine(
            model,
            execution,
            seed=0,
            precision=precision,
            head=head,  # type: ignore[arg-type]
            optim=optim,
            total_steps=steps,
            lora=lora,
            body=body,
        )

    text = PackedRows(np.random.default_rng(1).integers(2, model.vocab_size, (256, model.seq_len + 1)).astype(np.uint16))
    actor = engine("lm", config.optimizer)
    body = actor if config.lora else None
    reference, reward = engine("lm", lora=None, body=body), engine("scalar", body=body)
    critic = engine("scalar", config.value_optimizer, body=body) if isinstance(config, PPOConfig) else None
    sampling = SamplingConfig(config.max_new_tokens, 1.0, END, PAD, config.micro_batch)
    ema = engine("lm", precision="fp32", body=body) if config.ema_decay else None
    models = Models(actor, reference, reward, critic)
    return Training(models, ema, prompts, asked=[], encoder=None, rules=None, pretraining=text, sampling=sampling)  # type: ignore[arg-type]


def token_rows(model: ModelConfig, lengths: Sequence[int], seed: int) -> list[list[int]]:
    """Random token ids, never the padding or the end."""
    generator = np.random.default_rng(seed)
    return [generator.integers(2, model.vocab_size, length).tolist() for length in lengths]
