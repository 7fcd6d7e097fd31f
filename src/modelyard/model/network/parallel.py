"""Which rank does what: tensor, pipeline, context and data parallel groups of one worker group.

Thin over megatron-core's ``parallel_state``; it adds the CPU platform, a single-process start for tests and tools, and the few collectives the
engine needs by name. Expert parallelism shares whole experts over tensor-, context- and data-parallel ranks.
"""

from __future__ import annotations

import atexit
import gc
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.log import logger
from modelyard.model.network import cpu_platform, devices, disks

_log = logger(__name__)


class Layout(NamedTuple):
    """Sizes of the parallel dimensions and this rank's place in each."""

    tp: int
    pp: int
    dp: int
    tp_rank: int
    pp_rank: int
    dp_rank: int
    rank: int
    ep: int
    ep_rank: int
    vp: int
    """Model chunks that a pipeline stage computes in turn."""
    cp: int
    cp_rank: int

    @property
    def samplers(self) -> int:
        """Ranks that a list of prompts is shared out over: replicas, and the ranks of each one's context group."""
        return self.dp * self.cp

    @property
    def sampler(self) -> int:
        """This rank's number among them."""
        return self.dp_rank * self.cp + self.cp_rank

    @property
    def is_first_stage(self) -> bool:
        """Whether this rank holds the embedding (in its first chunk)."""
        return self.pp_rank == 0

    @property
    def is_last_stage(self) -> bool:
        """Whether this rank computes outputs and losses (in its last chunk)."""
        return self.pp_rank == self.pp - 1


def initialize(execution: ExecutionConfig) -> Layout:
    """Set up megatron's groups (once per process) and say where this rank stands.

    ``torch.distributed`` is used as it is when Ray Train started it; otherwise it is started, from torchrun's environment or as a world of one.

    Raises:
        ValueError: the world size is not TP x PP x CP x DP, or there is no device as ``execution.device`` asks for.
    """
    devices.settle(execution.device)
    devices.prepare_repeating(execution.deterministic)
    cpu_platform.install()
    from megatron.core import parallel_state, tensor_parallel

    if not dist.is_initialized():
        _start_distributed()
    if dist.get_world_size() != execution.world_size:
        raise ValueError(
            f"world size {dist.get_world_size()} is not tensor_parallel {execution.tensor_parallel} x pipeline_parallel "
            f"{execution.pipeline_parallel} x context_parallel {execution.context_parallel} x data_parallel {execution.data_parallel}"
        )
    disks.arrange(Path(execution.scratch))
    torch.set_num_threads(execution.threads)
    if not parallel_state.model_parallel_is_initialized():
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=execution.tensor_parallel,
            pipeline_model_parallel_size=execution.pipeline_parallel,
            virtual_pipeline_model_parallel_size=execution.chunks,
            context_parallel_size=execution.context_parallel,
            expert_model_parallel_size=execution.expert_parallel,
            expert_tensor_parallel_size=1,
        )
        if torch.cuda.is_available() and dist.get_rank() == 0:
            _log.warning("ranks compute on GPUs; the first: %s", devices.description())
    tensor_parallel.model_parallel_cuda_manual_seed(0, force_reset_rng=True)
    return Layout(
        tp=execution.tensor_parallel,
        pp=execution.pipeline_parallel,
        dp=execution.data_parallel,
        tp_rank=parallel_state.get_tensor_model_parallel_rank(),
        pp_rank=parallel_state.get_pipeline_model_parallel_rank(),
        dp_rank=parallel_state.get_data_parallel_rank(),
        rank=dist.get_rank(),
        ep=execution.expert_parallel,
        ep_rank=parallel_state.get_expert_model_parallel_rank(),
        vp=execution.virtual_pipeline,
        cp=execution.context_parallel,
        cp_rank=parallel_state.get_context_parallel_rank(),
    )


def leave() -> None:
    """End this process's groups once every rank has come here: the last call of a program under torchrun, when no engine is left.

    A gloo group has threads that free tensors, for which they need Python; one that does so while the interpreter ends aborts the process.
    """
    from megatron.core import parallel_state

    dist.barrier()
    _background.clear()
    parallel_state.destroy_model_parallel()
    gc.collect()  # what holds a group, in cycles too
    dist.destroy_process_group()


def _start_distributed() -> None:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if "RANK" in os.environ:
        if backend == "nccl":  # torchrun leaves every rank of a machine on its first GPU (Ray Train does not)
            devices.take(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group(backend)
        return
    store = dist.FileStore(  # type: ignore[attr-defined]
        os.path.join(tempfile.mkdtemp(), "rendezvous"), 1
    )
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    atexit.register(_leave_alone)


def _leave_alone() -> None:
    if dist.is_initialized() and dist.get_world_size() == 1:
        leave()


_background: dict[int, Any] = {}


def background_group() -> Any:
    """The gloo group of what runs beside training, for this world; made once, by all ranks."""
    key = id(dist.group.WORLD)
    if key not in _background:
        _background.clear()
        _background[key] = dist.new_group(backend="gloo")
    return _background[key]


def device() -> torch.device:
    """Where this rank computes."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def replicas(name: str) -> int:
    """How many ranks hold the same part of the parameter ``name`` apart from copies on tensor-parallel ranks; of experts there may be more."""
    from megatron.core import parallel_state

    if ".experts." in name:
        return int(parallel_state.get_expert_data_parallel_world_size())
    return int(parallel_state.get_data_parallel_world_size(with_context_parallel=True))


def from_last_stage(tensor: torch.Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """What the last pipeline stage computed, on every stage."""
    from megatron.core import parallel_state

    if parallel_state.get_pipeline_model_parallel_world_size() > 1:
        received = tensor.contiguous() if tensor is not None else torch.empty(shape, dtype=dtype, device=device())
        dist.broadcast(received, parallel_state.get_pipeline_model_parallel_last_rank(), parallel_state.get_pipeline_model_parallel_group())
        return received
    assert tensor is not None
    return tensor


def gather_data_parallel(tensor: torch.Tensor, *, context: bool = False) -> torch.Tensor:
    """Concatenate equal slices [b, ...] of the data-parallel ranks to [B, ...], on every rank; ``context``: of all :attr:`Layout.samplers`."""
    from megatron.core import parallel_state

    size = parallel_state.get_data_parallel_world_size(with_context_parallel=context)
    if size == 1:
        return tensor
    pieces = [torch.empty_like(tensor) for _ in range(size)]
    dist.all_gather(pieces, tensor.contiguous(), group=parallel_state.get_data_parallel_group(with_context_parallel=context))
    return torch.cat(pieces)


def sum_data_parallel(tensor: torch.Tensor, *, context: bool = False) -> torch.Tensor:
    """Sum over the data-parallel ranks, in place; ``context``: over all :attr:`Layout.samplers`."""
    from megatron.core import parallel_state

    if parallel_state.get_data_parallel_world_size(with_context_parallel=context) > 1:
        dist.all_reduce(tensor, group=parallel_state.get_data_parallel_group(with_context_parallel=context))
    return tensor


def summed_over_tensor_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over the tensor-parallel ranks, in place."""
    from megatron.core import parallel_state

    if parallel_state.get_tensor_model_parallel_world_size() > 1:
        dist.all_reduce(tensor, group=parallel_state.get_tensor_model_parallel_group())
    return tensor


def summed_over_replicas(count: torch.Tensor) -> torch.Tensor:
    """What the last pipeline stage counted, summed over the replicas, on every rank; in place."""
    from megatron.core import parallel_state

    if parallel_state.get_pipeline_model_parallel_world_size() > 1:
        dist.broadcast(count, parallel_state.get_pipeline_model_parallel_last_rank(), parallel_state.get_pipeline_model_parallel_group())
    return sum_data_parallel(count)
