"""AdamW through megatron-core: clipping, mixed precision, state shared out over the replicas, and the learning-rate schedule.

Every layout uses megatron-core's distributed optimizer (Rajbhandari et al. 2019, stage 1), one replica too, so a checkpoint has one form and is
read at any layout.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
import torch.distributed as dist
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.model.network.architecture import Precision

SHARDING = "fully_reshardable"


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
    beta1: float = Field(ge=0, lt=1)
    """First-moment decay."""
    beta2: float = Field(ge=0, lt=1)
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
    from megatron.core.optimizer import distrib_optimizer, get_megatron_optimizer

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
        use_distributed_optimizer=True,
    )
    whole = get_megatron_optimizer(settings, [chunk])
    for part in whole.chained_optimizers:
        _keep_padding(part)
        if not distrib_optimizer.HAVE_APEX_OR_TE:
            _keep_steps(part)
    for group in whole.param_groups:
        group["fused"] = True  # torch's AdamW in one pass over memory; Apex's and Transformer Engine's do not look at it
    return whole


def step(optimizer: Any, clip_grad: float, count: torch.Tensor) -> float:
    """One update by the mean of summed gradients over ``count`` labels; returns the norm of that mean, before
    clipping.

    Dividing, clipping and refusing what is not finite happen inside AdamW's one pass over memory (torch's
    ``grad_scale`` and ``found_inf``), so the host waits for a device once, for the norm. A norm that is not
    finite updates nothing.
    """
    optimizer.prepare_grads()
    divisor = count.clamp(min=1).float()
    norm = _squared_norm(optimizer).sqrt() / divisor
    scale = divisor * (norm / clip_grad).clamp(min=1.0) if clip_grad > 0 else divisor
    for part in optimizer.chained_optimizers:
        part.optimizer.grad_scale, part.optimizer.found_inf = scale, (~norm.isfinite()).float()
    optimizer.step_with_ready_grads()
    return float(norm)


def _squared_norm(optimizer: Any) -> torch.Tensor:
    """Sum of squares of the gradients of all ranks, each parameter counted once."""
    parts = [(part.get_main_grads_for_grad_norm(), part.get_grad_stats_parallel_group()) for part in optimizer.chained_optimizers]
    sums = []
    for gradients, group in parts:
        device = optimizer.param_groups[0]["params"][0].device
        own = torch.stack(torch._foreach_norm(gradients)).square().sum() if gradients else torch.zeros((), device=device)
        if dist.get_world_size(group) > 1:
            dist.all_reduce(own, group=group)
        sums.append(own)
    return torch.stack(sums).sum()


def sharded_state(optimizer: Any, model: dict[str, Any], *, loading: bool = False) -> dict[str, Any]:
    """Main weights and moments as a sharded state dict under the names of the sharded weights ``model``.

    megatron-core's own dict also names how parameters were grouped, which differs when experts are shared out; here a checkpoint is one at every
    layout. Rates and decays come from the config, and the number of updates is :func:`updates`.
    """
    kind = {"distrib_optim_sharding_type": SHARDING}
    states = {}
    for i, part in enumerate(optimizer.chained_optimizers):
        whole = part.data_parallel_group.size() == 1 and not loading
        states[str(i)] = (
            _unshared_state(part, model) if whole else part.sharded_state_dict(model, is_loading=loading, metadata=kind)["param_state"]
        )
    return states


def _unshared_state(part: Any, model: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """What megatron-core gathers for a checkpoint, from where it stands: with one replica every rank has its parameters' whole state.

    megatron-core 0.16.1 copies it some six times over on the training thread, with one replica too.
    """
    from megatron.core.dist_checkpointing.dict_utils import nested_values
    from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory
    from megatron.core.dist_checkpointing.utils import extract_sharded_tensors_and_factories

    entries = {entry.data: entry for entry in nested_values(extract_sharded_tensors_and_factories(model)[0])}
    parameters = [parameter for buffer in part.buffers for parameter in buffer.param_index_map]
    state: dict[int, dict[str, Any]] = {}
    for number, parameter in enumerate(parameters):
        entry, own = entries[parameter], part._get_main_param_and_optimizer_states(parameter)
        state[number] = {}
        for name in ("param", "exp_avg", "exp_avg_sq"):
            tensor = own[name].view(entry.data.shape)
            changes: dict[str, Any] = {"key": f"optimizer.state.{name}.{entry.key}", "data": tensor}
            if not isinstance(entry, ShardedTensorFactory):
                changes["dtype"] = tensor.dtype
            state[number][name] = dataclasses.replace(entry, **changes)
    return state


def load_sharded_state(optimizer: Any, loaded: dict[str, Any], count: int) -> None:
    """Take what was loaded into :func:`sharded_state`'s dict, and the number of updates behind it."""
    for i, part in enumerate(optimizer.chained_optimizers):
        own = part.state_dict()
        for group in own["optimizer"]["param_groups"]:
            group["step"] = count
        part.load_state_dict({**own, "param_state": loaded[str(i)], "param_state_sharding_type": SHARDING})


def updates(optimizer: Any) -> int:
    """Steps that AdamW has taken (fewer than the engine's where losses were skipped)."""
    return int(optimizer.chained_optimizers[0].state_dict()["optimizer"]["param_groups"][0].get("step") or 0)


def _keep_padding(part: Any) -> None:
    """Let every parameter's state be saved from where it stands.

    megatron-core 0.16.1 pads each bucket of its buffer, leaves the padding out when it gathers the state for a checkpoint, and then cuts parameters
    out at the places they have with it: where a padded bucket stands before another (a pipeline's tied embedding has one of its own), it saves
    the wrong numbers. Counting the padding as content keeps the places.
    """
    for buffer in part.buffers:
        buffer.numel_unpadded = buffer.numel
        for bucket in buffer.buckets:
            bucket.numel_unpadded = bucket.grad_data.numel()


def _keep_steps(part: Any) -> None:
    """Let a distributed optimizer over torch's AdamW be loaded.

    torch keeps the number of steps per parameter. megatron-core 0.16.1 saves it once for all, but reads it from a state that has none before the
    first step, gives every parameter the same tensor when it loads (so that each would count for all), and then looks for it among the loaded
    moments (``KeyError: 'step'``).
    """
    for group in part.optimizer.param_groups:
        for parameter in group["params"]:
            zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            part.optimizer.state[parameter] = {"step": torch.zeros((), device=parameter.device), **zeros}
    set_states = part._set_main_param_and_optimizer_states

    def set_with_own_step(model_parameter: Any, tensors: dict[str, torch.Tensor]) -> None:
        group, order = part.model_param_group_index_map[model_parameter]
        state = part.optimizer.state[part.optimizer.param_groups[group]["params"][order]]
        state["step"] = state["step"].clone()
        set_states(model_parameter, {"step": state["step"], **tensors})

    part._set_main_param_and_optimizer_states = set_with_own_step


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
