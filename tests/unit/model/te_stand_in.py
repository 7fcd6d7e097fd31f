"""A package ``transformer_engine`` that computes on a CPU: what megatron-core's own classes for it are built
upon, written from its documentation.

Its linear layers have the names, arguments and parameters of 2.11's and plain torch inside; in fp8 the
factors are rounded through torch's fp8 formats, by the greatest value of each, whatever the recipe.
Everything else that megatron-core imports of it is there and cannot be used. What it shows is how
megatron-core and we put layers together, name, train and store them; not what the package itself computes,
nor its communication.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NAME = "transformer_engine"
VERSION = "2.11.0"


class Format(enum.Enum):
    """Of factors forward and of gradients."""

    E4M3 = (torch.float8_e4m3fn, torch.float8_e4m3fn)
    HYBRID = (torch.float8_e4m3fn, torch.float8_e5m2)


class Recipe:
    """Any of the recipes, whatever it is told."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings


class Float8CurrentScaling(Recipe):
    """``fp8_recipe = "tensorwise"``."""


class DelayedScaling(Recipe):
    """``fp8_recipe = "delayed"``."""


class FP8GlobalStateManager:
    """Whether products are in fp8, and how."""

    recipe: Recipe | None = None
    recipes: list[Recipe] = []  # noqa: RUF012  all that were entered

    @classmethod
    def is_fp8_enabled(cls) -> bool:
        return cls.recipe is not None


@contextlib.contextmanager
def fp8_autocast(enabled: bool = True, fp8_recipe: Recipe | None = None, fp8_group: Any = None) -> Iterator[None]:
    """As the package's."""
    was, FP8GlobalStateManager.recipe = FP8GlobalStateManager.recipe, fp8_recipe if enabled else None
    if enabled and fp8_recipe is not None:
        FP8GlobalStateManager.recipes.append(fp8_recipe)
    try:
        yield
    finally:
        FP8GlobalStateManager.recipe = was


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x through an fp8 format, scaled by its greatest value."""
    assert x.shape[-1] % 16 == 0, "products in fp8 want rows of 16"
    assert x.numel() // x.shape[-1] % 8 == 0, "products in fp8 want a multiple of 8 rows"
    scale = torch.finfo(dtype).max / x.detach().abs().max().float().clamp(min=1e-12)
    return ((x.float() * scale).to(dtype).float() / scale).to(x.dtype)


class _Product(torch.autograd.Function):
    """x W^T, whose weight's gradient is added to ``main_grad`` where the layer was told so."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, fused: bool, first: bool | None) -> Tensor:
        ctx.formats = FP8GlobalStateManager.recipe.settings["fp8_format"].value if FP8GlobalStateManager.recipe else None
        ctx.weight, ctx.fused, ctx.first = weight, fused, first
        wide = (rounded(x, ctx.formats[0]), rounded(weight, ctx.formats[0])) if ctx.formats else (x, weight)
        ctx.save_for_backward(*wide)
        return wide[0] @ wide[1].t()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        grad = rounded(grad, ctx.formats[1]) if ctx.formats else grad
        slope = grad.reshape(-1, grad.shape[-1]).t() @ x.reshape(-1, x.shape[-1])
        if ctx.fused:
            total = ctx.weight.main_grad
            total.copy_(slope) if ctx.first else total.add_(slope)  # of a step's first micro-batch it is written over
            ctx.weight.grad_added_to_main_grad = True
            slope = torch.full_like(ctx.weight, float("nan"))  # nobody may read it
        return grad @ weight, slope, None, None


class Linear(torch.nn.Module):
    """``te.pytorch.Linear`` at one tensor-parallel rank."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        sequence_parallel: bool,
        fuse_wgrad_accumulation: bool,
        tp_group: Any,
        tp_size: int,
        get_rng_state_tracker: Any,
        init_method: Any,
        bias: bool,
        return_bias: bool,
        parallel_mode: str,
        params_dtype: torch.dtype,
        device: str,
        rng_tracker_name: str | None = None,
    ) -> None:
        super().__init__()
        assert tp_size == 1
        self.in_features, self.out_features, self.use_bias = in_features, out_features, bias
        self.parallel_mode, self.fuse_wgrad_accumulation, self.return_bias = parallel_mode, fuse_wgrad_accumulation, return_bias
        self.sequence_parallel, self.save_original_input = False, False
        self.weight = torch.nn.Parameter(torch.empty(out_features, in_features, dtype=params_dtype))
        init_method(self.weight)
        marks: Any = self.weight
        marks.tensor_model_parallel, marks.partition_dim, marks.partition_stride = True, int(parallel_mode == "row"), 1
        self.bias = torch.nn.Parameter(torch.zeros(out_features, dtype=params_dtype)) if bias else torch.empty(0)

    def get_extra_state(self) -> Tensor:
        """The package's layers have such a state in any precision."""
        return torch.empty(0, dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        pass

    def forward(self, x: Tensor, is_first_microbatch: bool | None = None) -> Any:
        output = _Product.apply(x, self.weight, self.fuse_wgrad_accumulation and self.weight.requires_grad, is_first_microbatch)
        if self.return_bias:
            return output, self.bias
        return output + self.bias if self.use_bias else output


class LayerNormLinear(Linear):
    """``te.pytorch.LayerNormLinear``: a norm, then the product."""

    def __init__(
        self, in_features: int, out_features: int, *, eps: float, normalization: str, zero_centered_gamma: bool, **settings: Any
    ) -> None:
        assert settings.pop("return_layernorm_output") is False
        super().__init__(in_features, out_features, **settings)
        self.eps, self.zero_centered_gamma = eps, zero_centered_gamma
        like = {"dtype": settings["params_dtype"]}
        self.layer_norm_weight = torch.nn.Parameter(torch.full((in_features,), float(not zero_centered_gamma), **like))
        self.layer_norm_bias = torch.nn.Parameter(torch.zeros(in_features, **like)) if normalization == "LayerNorm" else None

    def forward(self, x: Tensor, is_first_microbatch: bool | None = None) -> Any:
        weight = self.layer_norm_weight + 1 if self.zero_centered_gamma else self.layer_norm_weight
        if self.layer_norm_bias is None:
            return super().forward(F.rms_norm(x, x.shape[-1:], weight, self.eps), is_first_microbatch)
        return super().forward(F.layer_norm(x, x.shape[-1:], weight, self.layer_norm_bias, self.eps), is_first_microbatch)


class _Attributes(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Attributes(name, (_Unusable,), {})


class _Unusable(metaclass=_Attributes):
    """Any other class or function of the package."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("a part of Transformer Engine's that the stand-in lacks was used")


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("common", "distributed", "ops", "pytorch", "recipe"):
            return importlib.import_module(f"{self.__name__}.{name}")
        return _Attributes(name, (_Unusable,), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] == NAME else None

    def create_module(self, spec: Any) -> Any:
        return _Module(spec.name)

    def exec_module(self, module: Any) -> None:
        module.__dict__.update(_CONTENTS.get(module.__name__, {}))


def get_cpu_offload_context(*settings: Any, **more: Any) -> tuple[Any, Any]:
    """What moves activations to the host, which nothing here asks for."""
    return contextlib.nullcontext(), lambda x: x


class _SplitAlongDim:
    """Queries, keys and values of one product."""

    @staticmethod
    def apply(x: Tensor, dim: int, sizes: Any) -> tuple[Tensor, ...]:
        return x.split(sizes, dim)


_FP8 = {"FP8GlobalStateManager": FP8GlobalStateManager, "fp8_autocast": fp8_autocast}
_CONTENTS: dict[str, dict[str, Any]] = {
    NAME: {"__version__": VERSION},
    f"{NAME}.common.recipe": {
        "Format": Format,
        "Float8CurrentScaling": Float8CurrentScaling,
        "DelayedScaling": DelayedScaling,
        "Recipe": Recipe,
    },
    f"{NAME}.pytorch": {"Linear": Linear, "LayerNormLinear": LayerNormLinear, "fp8_autocast": fp8_autocast},
    f"{NAME}.pytorch.cpu_offload": {"get_cpu_offload_context": get_cpu_offload_context},
    f"{NAME}.pytorch.cpu_offload_v1": {"get_cpu_offload_context": get_cpu_offload_context},
    f"{NAME}.pytorch.attention.dot_product_attention.utils": {"SplitAlongDim": _SplitAlongDim},
    f"{NAME}.pytorch.attention": {"_SplitAlongDim": _SplitAlongDim},
    f"{NAME}.pytorch.utils": {"SplitAlongDim": _SplitAlongDim},
    f"{NAME}.pytorch.fp8": _FP8,
}


def install() -> None:
    """Let it be imported; before megatron-core, in a process of one's own."""
    assert "megatron.core" not in sys.modules
    sys.meta_path.insert(0, _Finder())
    for name in (NAME, f"{NAME}.common", f"{NAME}.common.recipe", f"{NAME}.pytorch", f"{NAME}.pytorch.fp8"):
        importlib.import_module(name)
