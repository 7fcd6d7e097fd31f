"""Transformer Engine's linear layers in place of ours: norm and product in one, and products in fp8 on GPUs
that have them (Micikevicius et al. 2022, "FP8 formats for deep learning").

``execution.transformer_engine`` builds the layers that are trained from megatron-core's specs for Transformer
Engine; its fused layers keep a norm as ``linear_qkv.layer_norm_weight``, which is the name that every
checkpoint here has for it, so a checkpoint is written and read either way. Weights, main weights and the sums
of gradients stay what they are; with ``execution.fp8`` the factors of the layers' products are rounded to
fp8. Attention stays :class:`~modelyard.model.network.attention.SdpaAttention`, which knows rows of several
texts, windows and our cut of a row over context ranks, and the norms of queries, keys and the last one stay
torch's: no product follows in which they could be fused. Embedding and output layer stay in bf16.

Engines that train nothing have our layers, so evaluation and generation never meet these. Left out: experts,
models that are shown images, adapters, torch.compile, weights kept in fp8, and the history of maxima that the
``delayed`` recipe has gathered, which begins anew with every start. Nothing here has been run on a GPU: tests
run megatron-core's classes over a stand-in of the package on a CPU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from modelyard.complaint import complaint
from modelyard.execution import ExecutionConfig
from modelyard.model.network import weight_gradients
from modelyard.model.network.modules import FusedAway

if TYPE_CHECKING:
    from modelyard.model.network.lora import LoRAConfig
    from modelyard.model.network.model_config import ModelConfig, Precision

CAPABILITY = (8, 9)
"""Compute capability from which GPUs multiply fp8 (Ada; Hopper is 9.0)."""
ALIGNED = 16
"""What the sides of weights are multiples of for products in fp8: rows of 16 bytes."""
ROWS = 8
"""What the number of rows of such a product is a multiple of."""


def of(execution: ExecutionConfig, trains: bool) -> ExecutionConfig:
    """The setting as an engine takes it: without Transformer Engine where nothing is trained."""
    return execution if trains else execution.model_copy(update={"transformer_engine": False, "fp8": None})


def problem() -> str:
    """Why Transformer Engine cannot be imported, in one line; "" where it can. Its package alone, without
    the libraries, is no more than a stub."""
    try:
        import transformer_engine.pytorch  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        return complaint(error)
    return ""


def require(execution: ExecutionConfig, precision: Precision, adapters: LoRAConfig | None) -> None:
    """Raise ValueError, in one line, where this process cannot do what the settings ask of Transformer
    Engine."""
    if not execution.transformer_engine:
        return
    if adapters is not None:
        raise ValueError("execution.transformer_engine: adapters (lora) stand on our own layers; set it to false")
    if execution.fp8 and precision != "bf16":
        raise ValueError(f"execution.fp8 {execution.fp8!r} rounds products of bf16, and this stage's precision is {precision!r}")
    if not torch.cuda.is_available():
        raise ValueError("execution.transformer_engine is true, but this process computes on the CPU, which Transformer Engine does not")
    if why := problem():
        raise ValueError(f"execution.transformer_engine is true, but it cannot be imported: {why}; pip install 'modelyard[te]'")
    if execution.fp8 and (found := torch.cuda.get_device_capability()) < CAPABILITY:
        has, needed = (".".join(map(str, version)) for version in (found, CAPABILITY))
        raise ValueError(f"execution.fp8 needs a GPU of compute capability {needed}, and {torch.cuda.get_device_name()} has {has}")


def check_model(model: ModelConfig, execution: ExecutionConfig) -> None:
    """Raise ValueError where this model has no such layers, or in fp8 none of these sizes."""
    if not execution.transformer_engine:
        return
    for part, what in (("moe", "experts"), ("vision", "a patch encoder")):
        if getattr(model, part) is not None:
            raise ValueError(f"execution.transformer_engine: {what} (model.{part}) stays on our own layers; set it to false")
    if not execution.fp8:
        return
    heads = model.head_width * model.heads
    sides = {
        "hidden": model.hidden,
        "ffn_hidden": model.ffn_hidden // execution.tensor_parallel,
        "heads": heads // execution.tensor_parallel,
        "kv_heads": model.head_width * 2 * model.kv_heads // execution.tensor_parallel,
    }
    for key, side in sides.items():
        if side % ALIGNED:
            raise ValueError(
                f"execution.fp8: model.{key} gives a rank matrices with sides of {side}, and products in fp8 want multiples of {ALIGNED}"
            )


def settings(execution: ExecutionConfig) -> dict[str, Any]:
    """The part of megatron-core's ``TransformerConfig`` that is about these layers."""
    if not execution.transformer_engine:
        return {"transformer_impl": "local", "gradient_accumulation_fusion": False}
    weight_gradients.install()  # megatron-core's own output layer wants the kernel for what these layers do themselves
    return {
        "transformer_impl": "transformer_engine",
        "gradient_accumulation_fusion": True,
        "fp8": execution.fp8,
        "fp8_recipe": execution.fp8_recipe,
        "fp8_amax_history_len": 1024 if execution.fp8_recipe == "delayed" else 1,
        "fp8_amax_compute_algo": "max" if execution.fp8_recipe == "delayed" else "most_recent",
    }


def row_multiple(widths: int, context_ranks: int, execution: ExecutionConfig) -> int:
    """What the width of a row is filled up to a multiple of: ``widths``, and on each of several context
    ranks two equal pieces, which in fp8 are :data:`ROWS` positions together."""
    if context_ranks == 1:
        return widths
    return math.lcm(widths, (ROWS if execution.fp8 else 2) * context_ranks)


def layer_spec() -> Any:
    """megatron-core's spec of a dense layer of these, in which a norm is part of the product behind it."""
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_with_transformer_engine_spec

    spec = get_gpt_layer_with_transformer_engine_spec()
    spec.submodules.input_layernorm = spec.submodules.pre_mlp_layernorm = FusedAway
    return spec
