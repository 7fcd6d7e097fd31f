"""CUDA around the tensors of :mod:`pretended_gpu`: functions that take a device, what is asked of a GPU,
kernels that torch has there only."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from modelyard.execution import ExecutionConfig
from modelyard.model.network import cpu_platform, devices, logit_passes, parallel

from . import pretended_machine
from .pretended_gpu import DEVICE, Graph, OnGpu, PretendedGpu, on_gpu

FACTORIES = [
    "zeros",
    "ones",
    "empty",
    "tensor",
    "full",
    "arange",
    "rand",
    "randn",
    "randint",
    "empty_like",
    "zeros_like",
    "ones_like",
    "full_like",
    "as_tensor",
    "empty_strided",
    "eye",
    "linspace",
]
FUSED = {
    "megatron.core.fusions.fused_bias_swiglu": ("swiglu", "swiglu_back", "weighted_swiglu", "weighted_swiglu_back"),
    "megatron.core.fusions.fused_bias_dropout": ("bias_dropout_add_fused_train", "bias_dropout_add_fused_inference"),
}
"""Functions of megatron-core's that torch.compile makes one kernel of on a GPU."""

_optimizers: Any = importlib.import_module("torch.optim.optimizer")
_group = _optimizers._group_tensors_by_device_and_dtype
_rms_norm = torch.nn.functional.rms_norm
_to_else = torch.nn.Module.to


@contextlib.contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch, execution: ExecutionConfig | None = None) -> Iterator[PretendedGpu]:
    """A process with one GPU, for engines that are made and used within it; its world, of one rank or
    ``execution``'s, stays gloo's."""
    parallel.initialize(execution or ExecutionConfig(threads=1))
    gpu = PretendedGpu()
    with monkeypatch.context() as patched:
        _patch_torch(patched, gpu)
        pretended_machine.patch(patched, gpu)
        for name in cpu_platform._HARD_CODED:
            patched.setattr(f"{name}.torch", torch)
        dispatcher: Any = importlib.import_module("megatron.core.transformer.moe.token_dispatcher")
        experts: Any = importlib.import_module("megatron.core.transformer.moe.moe_utils")
        patched.setattr(dispatcher, "maybe_move_tensor_to_cpu", experts.maybe_move_tensor_to_cpu)
        patched.setattr(experts.MoEAuxLossAutoScaler, "main_loss_backward_scale", None)  # a tensor of the process's
        for module, functions in FUSED.items():
            for function in functions:
                patched.setattr(f"{module}.{function}", gpu.as_one(getattr(importlib.import_module(module), function)))
        patched.setattr(logit_passes, "_compiled", gpu.as_one)
        patched.setattr(devices, "on_host", gpu.as_one(devices.on_host, name="on_host", waits=True))
        with gpu:
            yield gpu


def _pinned(self: Tensor) -> Tensor:
    """A copy in memory laid out as the tensor's, as torch makes one, which fails where elements share their memory."""
    return torch.empty_strided(self.shape, self.stride(), dtype=self.dtype).copy_(self)


def _patch_torch(patched: pytest.MonkeyPatch, gpu: PretendedGpu) -> None:
    for name, answer in {"is_available": True, "current_device": 0, "device_count": 1, "is_bf16_supported": True}.items():
        patched.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    patched.setattr(torch.cuda, "CUDAGraph", Graph)
    patched.setattr(torch.cuda, "graph", Graph.capture)
    patched.setattr(Tensor, "to", _to(gpu))
    patched.setattr(Tensor, "cuda", lambda self, *_, **__: self.to(DEVICE))
    patched.setattr(Tensor, "pin_memory", _pinned)
    for name in FACTORIES:
        patched.setattr(torch, name, _factory(gpu, getattr(torch, name)))
    patched.setattr(torch, "inference_mode", torch.no_grad)  # tensors of a class of one's own do not come through the other
    patched.setattr(torch.nn.functional, "rms_norm", lambda x, shape, weight, eps: _FusedNorm.apply(x, weight, eps))
    patched.setattr(torch.nn.Module, "cuda", _module_on_gpu)
    patched.setattr(torch.nn.Module, "to", _module_to)
    patched.setattr(_optimizers, "_group_tensors_by_device_and_dtype", _grouped)


def _factory(gpu: PretendedGpu, make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """One of torch's functions that take a device."""

    def made(*args: Any, **kwargs: Any) -> Tensor:
        device = kwargs.get("device")
        if not (_is_device(device) and _device(device).type == "cuda"):
            return make(*args, **kwargs)
        gpu.count(make.__name__)
        found = make(*args, **{**kwargs, "device": "cpu"})
        if gpu.captured is not None:
            gpu.captured.add(lambda: make(*args, **{**kwargs, "device": "cpu"}), found)
        return on_gpu(found)

    return made


def _to(gpu: PretendedGpu) -> Callable[..., Tensor]:
    """``Tensor.to``."""
    plain = Tensor.to

    def to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        rest = [one for one in args if not (_is_device(one) or one is None or isinstance(one, bool))]  # a bool: not to wait
        named = [one for one in (*args, kwargs.pop("device", None)) if _is_device(one)]
        kwargs.pop("non_blocking", None)
        moved = plain(tensor, *rest, **kwargs) if rest or kwargs else tensor
        if not named or (_device(named[0]).type == "cuda") == isinstance(moved, OnGpu):
            return moved
        return gpu.to_host(moved, "to") if isinstance(moved, OnGpu) else on_gpu(moved.detach().clone())

    return to


def _is_device(one: Any) -> bool:
    return isinstance(one, torch.device | str) or (isinstance(one, int) and not isinstance(one, bool))


def _device(one: Any) -> torch.device:
    return DEVICE if isinstance(one, int) else torch.device(one)


def _module_on_gpu(module: torch.nn.Module, *_: Any) -> torch.nn.Module:
    """``Module.cuda``; what is written on a parameter stays written on it."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and not isinstance(parameter, OnGpu):
                moved = torch.nn.Parameter(on_gpu(parameter.detach()), parameter.requires_grad)
                moved.__dict__.update(parameter.__dict__)
                part._parameters[name] = moved
        for name, buffer in part._buffers.items():
            part._buffers[name] = on_gpu(buffer) if buffer is not None else None
    return module


def _module_to(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
    """``Module.to``; a module of the GPU goes nowhere else."""
    device, *rest = torch._C._nn._parse_to(*args, **kwargs)
    if device is None or device.type != "cuda":
        return _to_else(module, *args, **kwargs)
    return _module_on_gpu(_to_else(module, dtype=rest[0]) if rest[0] else module)


def _grouped(*args: Any, **kwargs: Any) -> Any:
    """torch's groups of an optimizer's tensors, which it makes by where their memory is."""
    return {(DEVICE, dtype): lists for (_, dtype), lists in _group(*args, **kwargs).items()}


class _FusedNorm(torch.autograd.Function):
    """RMSNorm as CUDA has it, one kernel each way; torch makes it of several on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return PretendedGpu.now().as_one(_rms_norm, name="rms_norm")(x, [x.shape[-1]], weight, eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = (one.detach().requires_grad_() for one in ctx.saved_tensors)

        def slopes() -> tuple[Tensor, ...]:
            with torch.enable_grad():
                return torch.autograd.grad(_rms_norm(x, [x.shape[-1]], weight, ctx.eps), (x, weight), grad)

        return *PretendedGpu.now().as_one(slopes, name="rms_norm_backward")(), None
