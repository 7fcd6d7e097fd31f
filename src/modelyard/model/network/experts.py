"""Mixture of experts: its config and what megatron-core's MoE layer is told (Fedus et al. 2021; Lepikhin et al. 2020 for sharing experts out).

Every token goes to its ``top_k`` experts and none is dropped; the gates are a softmax over the chosen ones (with ``top_k`` 1: over all). Ranks
share the experts out and exchange tokens (``execution.expert_parallel``); an expert is never cut. What they compute is
:mod:`modelyard.model.network.grouped_experts`'s. Where a GPU, sequence or context parallelism pads a row, the padded positions count in the
balancing loss. Left out: capacity limits, shared experts, experts in some layers only.
"""

from __future__ import annotations

from typing import Any

from pydantic import model_validator
from torch.nn import Module

from modelyard.config import Config
from modelyard.execution import ExecutionConfig

ALIGNED = 8
"""What widths are multiples of: torch's grouped products take rows of whole 16 bytes, which are 8 numbers in bf16."""


class MoEConfig(Config):
    """A mixture of experts in place of every feed-forward block; ``ffn_hidden`` is the width of one expert."""

    experts: int
    """Experts of a layer."""
    top_k: int
    """Experts that a token is sent to; no token is dropped."""
    aux_loss: float
    """Weight of the load-balancing loss (Fedus et al. 2021, equation 4); 0 leaves it out."""

    @model_validator(mode="after")
    def _ranges(self) -> MoEConfig:
        if not 1 <= self.top_k <= self.experts or self.experts < 2:
            raise ValueError(f"experts {self.experts} must be at least 2 and top_k {self.top_k} between 1 and experts")
        if self.aux_loss < 0:
            raise ValueError(f"aux_loss must not be negative, got {self.aux_loss:g}")
        return self


def settings(moe: MoEConfig, ffn_hidden: int, execution: ExecutionConfig) -> dict[str, Any]:
    """The part of megatron-core's ``TransformerConfig`` that is about experts."""
    from megatron.core.transformer.moe import moe_utils

    if not moe_utils.HAVE_TE:
        moe_utils.te_general_gemm = None  # megatron-core 0.16.1 asks whether it is None without having defined it
    return {
        "num_moe_experts": moe.experts,
        "moe_router_topk": moe.top_k,
        "moe_ffn_hidden_size": ffn_hidden,
        "moe_router_pre_softmax": moe.top_k == 1,  # the softmax over one chosen expert would always be 1
        "moe_router_load_balancing_type": "aux_loss" if moe.aux_loss else "none",
        # of a split sequence megatron-core 0.16.1 weighs each rank's part of the loss by that rank's tokens only: 1 / (TP x CP) of what it should be
        "moe_aux_loss_coeff": moe.aux_loss * execution.tensor_parallel * execution.context_parallel,
        "expert_tensor_parallel_size": 1,
        "moe_router_dtype": "fp32",
        "moe_token_dispatcher_type": "alltoall",
    }


def keep_no_log(module: Module) -> None:
    """Let the routers of ``module`` log no balancing loss: nobody reads it, and megatron-core 0.16.1 keeps it in a table of the process that is as
    long as the first model with experts has layers, beyond which it fails."""
    from megatron.core.transformer.moe.router import Router

    for router in module.modules():
        if isinstance(router, Router):
            router.layer_number = None  # what it says where to log
