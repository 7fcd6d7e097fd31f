"""Policies small enough to train in seconds: their configs, a run, and their weights."""

import os
from pathlib import Path

import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.training.engine import Engine
from modelyard.posttrain.policy import loop
from modelyard.posttrain.policy.config import GRPOConfig, OnPolicyConfig, OPDConfig, PPOConfig, RLOOConfig
from modelyard.progress import silent
from modelyard.store.file_hash import sha256_tree
from tests.unit.posttrain.conftest import optimizer

Inputs = dict[str, Path]
SAMPLED = {
    "seed": 4,
    "precision": "fp32",
    "iterations": 4,
    "episodes": 16,
    "minibatches": 2,
    "micro_batch": 4,
    "max_new_tokens": 8,
    "temperature": 1.0,
    "kl_stop": 50.0,
    "on_kl_stop": "error",
    "clip_range": 0.2,
    "ptx_coef": 0.5,
    "ptx_rows": 4,
    "ema_decay": 0.5,
    "final_episodes": 16,
    "final_rows": 8,
}
REWARDED = {**SAMPLED, "kl_coef": 0.05}


def ppo_config(**changes: object) -> PPOConfig:
    critic = {"gae_lambda": 0.9, "value_clip_range": 0.2, "value_optimizer": optimizer(2e-3)}
    return PPOConfig(**{"algorithm": "ppo", **REWARDED, **critic, "optimizer": optimizer(1e-3), **changes})


def grpo_config(**changes: object) -> GRPOConfig:
    own = {
        "algorithm": "grpo",
        "group": 4,
        "scale": "group",
        "mean": "sequence",
        "optimizer": optimizer(1e-3),
        "ptx_coef": 0.0,
        "ptx_rows": 0,
    }
    return GRPOConfig(**{**REWARDED, **own, **changes})


def rloo_config(**changes: object) -> RLOOConfig:
    return RLOOConfig(**{**REWARDED, "algorithm": "rloo", "group": 4, "optimizer": optimizer(1e-3), **changes})


def opd_config(**changes: object) -> OPDConfig:
    """Taught by the model that the environment names."""
    place = Path(os.environ["MODELYARD_TEACHER"])
    teacher = {"kind": "directory", "name": "Elder-1", "licence": "Apache-2.0", "weights": sha256_tree(place / "checkpoint")}
    return OPDConfig(**{**SAMPLED, "algorithm": "opd", "teacher": teacher, "optimizer": optimizer(1e-3), **changes})


def weights(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in engine.gpt.named_parameters()}


def run(config: OnPolicyConfig, inputs: Inputs, root: Path, execution: ExecutionConfig, report: object = silent) -> dict[str, float]:
    out = root / "out"
    out.mkdir(parents=True, exist_ok=True)
    return loop.run(config, inputs, out, root / "ck", execution, report)
