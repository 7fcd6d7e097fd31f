"""AdamW through megatron-core: clipping, mixed precision, the distributed optimizer when there are replicas, and the learning-rate schedule."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import model_validator

from modelyard.config import Config
from modelyard.model.architecture import Precision


class OptimizerConfig(Config):
    """AdamW and its schedule."""

    lr: float
    """Peak learning rate."""
    min_lr_ratio: float
    """Final learning rate as a share of the peak (InstructGPT's SFT: 0.1)."""
    warmup_steps: int
    """Steps from ``lr * warmup_init_ratio`` to the peak."""
    warmup_init_ratio: float = 0.0
    """Learning rate of the first warm-up step as a share of the peak (InstructGPT's PPO: 0.1)."""
    weight_decay: float
    """Decoupled weight decay on matrices."""
    beta1: float
    """First-moment decay."""
    beta2: float
    """Second-moment decay."""
    eps: float
    """Adam's epsilon."""
    clip_grad: float
    """Global gradient norm above which gradients are scaled down; 0 never clips."""
    schedule: Literal["cosine", "constant"]
    """Shape after the warm-up."""

    @model_validator(mode="after")
    def _ranges(self) -> OptimizerConfig:
        if self.lr < 0 or not 0 <= self.min_lr_ratio <= 1 or self.warmup_steps < 0:
            raise ValueError("lr and warmup_steps must not be negative and min_lr_ratio must lie in [0, 1]")
        return self


def create(config: OptimizerConfig, chunk: Any, precision: Precision) -> Any:
    """megatron-core's optimizer over one DDP-wrapped model chunk."""
    from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig
    from megatron.core.optimizer import get_megatron_optimizer

    settings = MegatronOptimizerConfig(
        optimizer="adam",
        lr=config.lr,
        min_lr=config.lr * config.min_lr_ratio,
        weight_decay=config.weight_decay,
        adam_beta1=config.beta1,
        adam_beta2=config.beta2,
        adam_eps=config.eps,
        clip_grad=config.clip_grad,
        bf16=precision == "bf16",
        params_dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
        use_distributed_optimizer=chunk.ddp_config.use_distributed_optimizer,
    )
    optimizer = get_megatron_optimizer(settings, [chunk])
    for group in optimizer.param_groups:
        group["fused"] = True  # torch's AdamW in one pass over memory; Apex's and Transformer Engine's do not look at it
    return optimizer


def schedule(config: OptimizerConfig, optimizer: Any, total_steps: int) -> Any:
    """megatron-core's learning-rate schedule; ``step(n)`` moves it by n optimizer steps."""
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    return OptimizerParamScheduler(
        optimizer,
        init_lr=config.lr * config.warmup_init_ratio,
        max_lr=config.lr,
        min_lr=config.lr * config.min_lr_ratio,
        lr_warmup_steps=config.warmup_steps,
        lr_decay_steps=max(total_steps, config.warmup_steps + 1),
        lr_decay_style=config.schedule,
        start_wd=config.weight_decay,
        end_wd=config.weight_decay,
        wd_incr_steps=1,
        wd_incr_style="constant",
    )
