"""Small modules of ours that megatron-core's ``GPTModel`` is built with: the scalar head, the norms, and what stands for one that is elsewhere."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor


class ScalarHead(torch.nn.Module):
    """One number per position in place of the unembedding (InstructGPT, section 3.5). Replicated over tensor-parallel ranks."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.sequence_parallel = config.sequence_parallel
        self.weight = torch.nn.Parameter(torch.zeros(1, config.hidden_size, dtype=config.params_dtype))
        self.bias = torch.nn.Parameter(torch.zeros(1, dtype=config.params_dtype))

    def forward(self, hidden: Tensor, weight: Tensor | None = None, runtime_gather_output: bool | None = None) -> tuple[Tensor, None]:
        """Hidden [s, b, h] -> values [s, b, 1] in fp32, with megatron-core's output-layer signature."""
        if self.sequence_parallel:
            from megatron.core.tensor_parallel import gather_from_sequence_parallel_region

            # every rank computes the same loss from the whole sequence: its share of the gradient is a slice, not a sum
            hidden = gather_from_sequence_parallel_region(hidden, tensor_parallel_output_grad=False)
        return torch.nn.functional.linear(hidden.float(), self.weight.float(), self.bias.float()), None


class ZeroCentredNorm(torch.nn.RMSNorm):
    """RMSNorm that multiplies by 1 + weight, in fp32 throughout (Gemma)."""

    def forward(self, x: Tensor) -> Tensor:
        """The norm of x [..., h] in its dtype."""
        wide = torch.nn.functional.rms_norm(x.float(), list(self.normalized_shape), 1.0 + self.weight.float(), self.eps)
        return wide.to(x.dtype)


class Norm:
    """torch's RMSNorm or LayerNorm, its weights marked for the sum over tensor-parallel ranks that sequence parallelism needs."""

    def __new__(cls, config: Any, hidden_size: int, eps: float = 1e-5, **unused: Any) -> torch.nn.Module:  # type: ignore[misc]
        """A norm of ``hidden_size``."""
        plain = torch.nn.RMSNorm if config.normalization == "RMSNorm" else torch.nn.LayerNorm
        module = (ZeroCentredNorm if config.layernorm_zero_centered_gamma else plain)(hidden_size, eps=eps)
        for parameter in module.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        return module


class FusedAway(torch.nn.Module):
    """Stands where a norm would be that is part of the product behind it (:mod:`modelyard.model.network.te_layers`)."""

    def __init__(self, *unused: Any, **also_unused: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """The same x."""
        return x

    @property
    def weight(self) -> NoReturn:
        """What generation would read. Raises ValueError."""
        raise ValueError(
            "a model that is trained on Transformer Engine's layers cannot generate, for its norms are part of them; "
            "set execution.transformer_engine to false"
        )
