"""AdamW through megatron-core: clipping, mixed precision, state shared out over the replicas, and the learning-rate schedule.

Every layout uses megatron-core's distributed optimizer (Rajbhandari et al. 2019, stage 1), one replica too, so a checkpoint has one form and is
read at any layout. A rank saves and loads its own part of the state (:mod:`modelyard.model.checkpoints.shards`); nothing is gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from pydantic import Field

from modelyard.config import Config
from modelyard.model.checkpoints import host_copy, shards
from modelyard.model.network import devices, parallel
from modelyard.model.network.model_config import Precision
from modelyard.model.training import main_weights

STATE = ("param", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of a parameter: its value in fp32 and two moments."""


class OptimizerConfig(Config):
    """AdamW and its schedule."""

    lr: float = Field(ge=0)
    """Peak learning rate."""
    min_lr_ratio: float = Field(ge=0, le=1)
    """Final learning rate as a share of the peak (InstructGPT's SFT: 0.1)."""
    warmup_steps: int = Field(ge=0)
    """Steps from ``lr * warmup_init_ratio`` to the peak."""
    warmup_init_ratio: float = Field(default=0.0, ge=0, le=1)
    """Learning rate of the first warm-up step as a share of the peak (InstructGPT's PPO: 0.1)."""
    weight_decay: float = Field(ge=0)
    """Decoupled weight decay on matrices."""
    beta1: float = Field(ge=0, lt=1)
    """First-moment decay."""
    beta2: float = Field(ge=0, lt=1)
    """Second-moment decay."""
    eps: float = Field(gt=0)
    """Adam's epsilon."""
    clip_grad: float = Field(ge=0)
    """Global gradient norm above which gradients are scaled down; 0 never clips."""
    schedule: Literal["cosine", "constant"]
    """Shape after the warm-up."""


def create(config: OptimizerConfig, chunks: list[Any], precision: Precision) -> Any:
    """megatron-core's optimizer over DDP-wrapped model chunks."""
    from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig
    from megatron.core.optimizer import get_megatron_optimizer

    _use_torchs_adamw()
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
    whole = get_megatron_optimizer(settings, chunks)
    for part in training_parts(whole):
        _begin_state(part)
        main_weights.write_together(part)
    for group in whole.param_groups:  # none on a pipeline stage that has nothing to train
        group["fused"] = True  # one pass over memory
    return whole


def _use_torchs_adamw() -> None:
    """Have megatron-core take torch's AdamW also where Apex or Transformer Engine is installed, whose own know nothing of ``grad_scale``: sums of
    gradients would be taken for means, and never be clipped."""
    from megatron.core import optimizer as megatron
    from megatron.core.optimizer import distrib_optimizer

    megatron.Adam, megatron.USING_PYTORCH_OPTIMIZER = torch.optim.AdamW, True
    distrib_optimizer.HAVE_APEX_OR_TE = False


def step(optimizer: Any, clip_grad: float, count: torch.Tensor, gather: Callable[[], None]) -> float:
    """One update by the mean of summed gradients over ``count`` labels; returns the norm of that mean, before
    clipping. ``gather`` begins to gather what the replicas have updated where the optimizer does not.

    Dividing, clipping and refusing what is not finite happen inside AdamW's one pass over memory (torch's
    ``grad_scale`` and ``found_inf``), so the host waits for a device once, for the norm. A norm that is not
    finite updates nothing.
    """
    optimizer.prepare_grads()
    divisor = count.clamp(min=1).float()
    norm = _squared_norm(optimizer).sqrt() / divisor
    scale = divisor * (norm / clip_grad).clamp(min=1.0) if clip_grad > 0 else divisor
    for part in training_parts(optimizer):
        part.optimizer.grad_scale, part.optimizer.found_inf = scale, (~norm.isfinite()).float()
    host_copy.before_change()
    optimizer.step_with_ready_grads()
    gather()
    return float(devices.on_host(norm))


def _squared_norm(optimizer: Any) -> torch.Tensor:
    """Sum of squares of the gradients of all ranks, each parameter counted once."""
    parts = [(part.get_main_grads_for_grad_norm(), part.get_grad_stats_parallel_group()) for part in optimizer.chained_optimizers]
    sums = []
    for gradients, group in parts:
        own = torch.stack(torch._foreach_norm(gradients)).square().sum() if gradients else torch.zeros((), device=parallel.device())
        if dist.get_world_size(group) > 1:
            dist.all_reduce(own, group=group)
        sums.append(own)
    return torch.stack(sums).sum()


def sharded_state(optimizer: Any, model: dict[str, Any], replicas: Callable[[str], int]) -> dict[str, Any]:
    """This rank's part of main weights and moments as a sharded state dict of views of them, which a load therefore fills.

    Keys are those of the sharded weights ``model``, each of which ``replicas(name)`` ranks hold. megatron-core's own dict gathers the whole state
    on every replica, and names how parameters were grouped, which differs when experts are shared out; here a checkpoint is one at every layout.
    Rates and decays come from the config, and the number of updates is :func:`updates`.
    """
    entries = {entry.data: (name, entry) for name, entry in model.items()}
    state: dict[str, Any] = {}
    for part in training_parts(optimizer):
        if not part.optimizer.state:  # of an optimizer that makes it in its first step
            part.load_state_dict(part.state_dict())
        cut = part.data_parallel_group.size()
        for parameter, start in _own(part):
            name, entry = entries[parameter]
            # among those with the same run: one, but for experts that tensor-parallel ranks hold too
            replica = entry.replica_id[-1] % (replicas(name) // cut)
            own = part._get_main_param_and_optimizer_states(parameter)
            for kind in STATE:
                if kind == "param" and _shares_memory(own[kind], parameter):
                    continue  # in fp32 it is the weight, which the model's part saves and loads
                run = shards.run_of(entry, own[kind].detach().view(-1), start, replica, f"optimizer.state.{kind}.")
                state |= {f"{kind}.{name}.{number}": piece for number, piece in enumerate(run)}
    return state


def _shares_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _own(part: Any) -> Iterator[tuple[torch.nn.Parameter, int]]:
    """The parameters that this rank has state of, each with the first of its elements that it has."""
    for ranges in part.gbuf_ranges:
        for buckets in ranges.values():
            for bucket in buckets:
                yield from ((parameter, own["param"].start) for parameter, own in bucket["param_map"].items())


def take_updates(optimizer: Any, count: int) -> None:
    """Say how many updates are behind the state that was loaded into :func:`sharded_state`'s views."""
    for part in training_parts(optimizer):
        for group in part.optimizer.param_groups:
            group["step"] = count  # where megatron-core looks for it; torch keeps one a parameter
        for state in part.optimizer.state.values():
            if "step" in state:
                state["step"].fill_(count)


def updates(optimizer: Any) -> int:
    """Steps that AdamW has taken (fewer than the engine's where losses were skipped)."""
    parts = training_parts(optimizer)
    return int(parts[0].state_dict()["optimizer"]["param_groups"][0].get("step") or 0) if parts else 0


def rate(optimizer: Any) -> float:
    """Learning rate of the step that comes; 0 on a pipeline stage that has nothing to train."""
    return float(optimizer.param_groups[0]["lr"]) if optimizer.param_groups else 0.0


def training_parts(optimizer: Any) -> list[Any]:
    """The parts that have something to train, which a pipeline stage of layers that stay as they are lacks."""
    return [part for part in optimizer.chained_optimizers if any(group["params"] for group in part.param_groups)]


def _begin_state(part: Any) -> None:
    """Make the state that torch's AdamW makes in its first step, so that there is one to save and to load before it."""
    for group in part.optimizer.param_groups:
        for parameter in group["params"]:
            zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            part.optimizer.state[parameter] = {"step": torch.zeros((), device=parameter.device), **zeros}


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
