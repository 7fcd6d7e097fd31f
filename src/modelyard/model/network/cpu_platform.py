"""Lets megatron-core run where there is no CUDA.

megatron-core asks CUDA for devices, streams, RNG state and profiler ranges even when every tensor is on the CPU. :func:`install` answers those
questions with the CPU, once per process and only without CUDA. Calls with a hard-coded ``device="cuda"`` are redirected inside the few modules
that make them (a stand-in for their ``torch``) instead of by a process-wide function mode, which would tax every operation.
Left out: anything numerical. No arithmetic of megatron-core is replaced here.
"""

from __future__ import annotations

import contextlib
import importlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

_HARD_CODED = (
    "megatron.core.pipeline_parallel.schedules",
    "megatron.core.optimizer.optimizer",
    "megatron.core.optimizer.clip_grads",
    "megatron.core.optimizer.distrib_optimizer",
    "megatron.core.distributed.param_and_grad_buffer",
    "megatron.core.dist_checkpointing.exchange_utils",
    "megatron.core.dist_checkpointing.strategies.state_dict_saver",
    "megatron.core.transformer.moe.moe_utils",
    "megatron.core.utils",
)
_FACTORIES = ("zeros", "ones", "empty", "tensor", "full", "arange", "empty_like", "zeros_like")


class _Stream:
    """Stand-in for ``torch.cuda.Stream``: CPU work is already in order."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def wait_stream(self, stream: object) -> None:
        """Nothing to wait for."""

    def record_event(self) -> _Stream:
        """An event that has already happened; waiting for it is ``synchronize``."""
        return self

    def synchronize(self) -> None:
        """Nothing to wait for."""


class _CpuTorch(types.ModuleType):
    """``torch`` whose tensor factories take ``device="cuda"`` for the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _on_cpu(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        return factory(*args, **kwargs)

    return make


def _nothing() -> Callable[..., None]:
    """A new function that does nothing (torch's compiler wants each of its names to be another object)."""
    return lambda *args, **kwargs: None


def _on_host(tensor: Any, as_numpy: bool = False, record_stream: bool = False) -> Any:
    """megatron-core's ``maybe_move_tensor_to_cpu``, which makes no array of a tensor that is on the CPU already."""
    return tensor.numpy() if as_numpy and isinstance(tensor, torch.Tensor) else tensor


def _cuda_type_name(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """``Tensor.type()`` as megatron-core's optimizers compare it (``torch.cuda.FloatTensor``); conversions are left alone."""
    answer = _TENSOR_TYPE(tensor, *args, **kwargs)
    return answer.replace("torch.", "torch.cuda.", 1) if isinstance(answer, str) and "cuda" not in answer else answer


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """megatron-core hands its fused functions, of which the CPU runs none, to ``torch.compile`` as it is imported; that alone takes more than a
    second, because the whole compiler is loaded."""
    compiler: Any = torch
    compile_ = compiler.compile
    compiler.compile = lambda function: function
    try:
        yield
    finally:
        compiler.compile = compile_


_TENSOR_TYPE = torch.Tensor.type
_installed = False


def install() -> None:
    """Make megatron-core run on the CPU. Does nothing where CUDA is available or when called again."""
    global _installed
    if _installed or torch.cuda.is_available():
        return
    _installed = True
    cuda: Any = torch.cuda
    cuda.current_device = lambda: "cpu"
    for name in ("synchronize", "empty_cache", "set_device"):
        setattr(cuda, name, _nothing())
    cuda.Stream = _Stream
    for name in ("current_stream", "default_stream"):
        setattr(cuda, name, lambda *args: _Stream())
    cuda.stream = lambda stream: contextlib.nullcontext()
    cuda.nvtx.range_push, cuda.nvtx.range_pop = _nothing(), _nothing()
    cuda.manual_seed = torch.default_generator.manual_seed
    cuda.get_rng_state = lambda device=None: torch.get_rng_state()
    cuda.set_rng_state = lambda state, device=None: torch.set_rng_state(state)
    torch.Tensor.type = _cuda_type_name  # type: ignore[method-assign, assignment]
    torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]

    with _without_compiler():
        importlib.import_module("megatron.core")
    random: Any = importlib.import_module("megatron.core.tensor_parallel.random")
    random._get_cuda_rng_state = lambda device="cpu", clone=False, graph_safe=False: torch.get_rng_state()
    random._set_cuda_rng_state = lambda state, device=-1, graph_safe=False: torch.set_rng_state(state)

    dispatcher: Any = importlib.import_module("megatron.core.transformer.moe.token_dispatcher")
    dispatcher.maybe_move_tensor_to_cpu = _on_host

    stand_in = _CpuTorch("torch")
    for name in _FACTORIES:
        setattr(stand_in, name, _on_cpu(getattr(torch, name)))
    for module in _HARD_CODED:
        importlib.import_module(module).torch = stand_in  # type: ignore[attr-defined]
