"""Models of every kind whose decoding step is one graph: one for each part in which a layer, or what stands around them, can differ."""

from __future__ import annotations

from typing import Any

from modelyard.model.network.model_config import ModelConfig
from modelyard.model.network.variant import Variant

from . import layout_program as program


def _llama(tied: bool = False, **change: Any) -> ModelConfig:
    return ModelConfig.model_validate({**program.model("llama", tied).model_dump(), **change})


def _experts(style: str, experts: int, top_k: int) -> ModelConfig:
    moe = {"experts": experts, "top_k": top_k, "aux_loss": 0.0}
    return ModelConfig.model_validate({**program.model(style, True).model_dump(), "moe": moe})


GEMMA = Variant(gate="gelu_tanh", zero_centred_norms=True, scaled_embedding=True)
MODELS: dict[str, ModelConfig] = {
    "llama": program.model("llama", True),
    "gpt": program.model("gpt", False),
    "variant": program.model("llama", True, variant=True),
    "mistral": _llama(variant=Variant(window=3)),
    "qwen2": _llama(True, variant=Variant(qkv_bias=True)),
    "qwen2 windows": _llama(variant=Variant(qkv_bias=True, window=3, window_layers=(1,))),
    "qwen3": _llama(variant=Variant(qk_norm=True), head_dim=16),
    "gemma": _llama(True, variant=GEMMA, head_dim=16),
    "gemma 2b": _llama(True, variant=GEMMA, head_dim=16, kv_heads=1),
    "smollm3": _llama(True, variant=Variant(no_rope_layers=(0,), window=3, window_layers=(1,))),
    "experts": _experts("llama", 4, 2),
    "one expert a token": _experts("llama", 4, 1),
    "gpt experts": _experts("gpt", 3, 2),
}
