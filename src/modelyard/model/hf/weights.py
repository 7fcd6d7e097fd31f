"""Tensors and shapes of Hugging Face's Llama and of megatron-core's GPTModel, one from the other.

A distributed checkpoint stores every tensor whole under its global name (layers stacked in a leading dimension), so conversion reads and
writes those names and cannot depend on the tensor or pipeline layout that wrote them. megatron-core interleaves query, key and value rows
per group and stacks gate over up; Hugging Face keeps them apart. No arithmetic happens here: a round trip is bit-identical.
What has no place in our model (biases, other activations, other rotary scalings) is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modelyard.model.checkpoints import metadata_check
from modelyard.model.network.architecture import ModelConfig

Weights = dict[str, Tensor]

_LAYER = "decoder.layers."
_PLAIN = {
    "self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
    "self_attention.linear_proj.weight": "self_attn.o_proj.weight",
    "mlp.linear_fc1.layer_norm_weight": "post_attention_layernorm.weight",
    "mlp.linear_fc2.weight": "mlp.down_proj.weight",
}
LLAMA3_BANDS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def read_checkpoint(directory: Path) -> Weights:
    """Every tensor of a distributed checkpoint, whole, without starting any process group. Raises ValueError (see ``metadata_check``)."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    metadata_check.check(directory)
    metadata = FileSystemReader(str(directory)).read_metadata().state_dict_metadata
    state: Weights = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    load(state, storage_reader=FileSystemReader(str(directory)), no_dist=True)
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}


def to_hf(weights: Weights, model: ModelConfig) -> Weights:
    """Global megatron tensors -> ``LlamaForCausalLM`` state dict. Rows that pad the vocabulary are left behind."""
    head, group = model.head_width, model.heads // model.kv_heads
    out = {
        "model.embed_tokens.weight": weights["embedding.word_embeddings.weight"][: model.vocab_size],
        "model.norm.weight": weights["decoder.final_layernorm.weight"],
    }
    if not model.tie_embeddings:
        out["lm_head.weight"] = weights["output_layer.weight"][: model.vocab_size]
    for layer in range(model.layers):
        prefix = f"model.layers.{layer}."
        for ours, theirs in _PLAIN.items():
            out[prefix + theirs] = weights[_LAYER + ours][layer]
        qkv = weights[_LAYER + "self_attention.linear_qkv.weight"][layer].view(model.kv_heads, group + 2, head, model.hidden)
        for name, rows in (("q", qkv[:, :group]), ("k", qkv[:, group : group + 1]), ("v", qkv[:, group + 1 :])):
            out[f"{prefix}self_attn.{name}_proj.weight"] = rows.reshape(-1, model.hidden)
        gate, up = weights[_LAYER + "mlp.linear_fc1.weight"][layer].chunk(2)
        out[prefix + "mlp.gate_proj.weight"], out[prefix + "mlp.up_proj.weight"] = gate, up
    return {name: tensor.contiguous().clone() for name, tensor in out.items()}


def from_hf(weights: Weights, model: ModelConfig) -> Weights:
    """``LlamaForCausalLM`` state dict -> global megatron tensors (layers stacked).

    Raises:
        ValueError: a tensor is missing or has no place in our model (a bias, an untied head of a tied model), named.
    """
    head, group = model.head_width, model.heads // model.kv_heads
    weights = dict(weights)

    def take(name: str) -> Tensor:
        if name not in weights:
            raise ValueError(f"no tensor {name}")
        return weights.pop(name)

    out = {
        "embedding.word_embeddings.weight": take("model.embed_tokens.weight"),
        "decoder.final_layernorm.weight": take("model.norm.weight"),
    }
    if not model.tie_embeddings:
        out["output_layer.weight"] = take("lm_head.weight")
    elif "lm_head.weight" in weights and not torch.equal(take("lm_head.weight"), out["embedding.word_embeddings.weight"]):
        raise ValueError("lm_head.weight differs from model.embed_tokens.weight although tie_word_embeddings is true")
    layers = [f"model.layers.{layer}." for layer in range(model.layers)]
    for ours, theirs in _PLAIN.items():
        out[_LAYER + ours] = torch.stack([take(prefix + theirs) for prefix in layers])

    def qkv(prefix: str) -> Tensor:
        parts = [
            take(f"{prefix}self_attn.{name}_proj.weight").view(model.kv_heads, size, head, model.hidden)
            for name, size in (("q", group), ("k", 1), ("v", 1))
        ]
        return torch.cat(parts, 1).reshape(-1, model.hidden)

    out[_LAYER + "self_attention.linear_qkv.weight"] = torch.stack([qkv(prefix) for prefix in layers])
    out[_LAYER + "mlp.linear_fc1.weight"] = torch.stack(
        [torch.cat([take(prefix + "mlp.gate_proj.weight"), take(prefix + "mlp.up_proj.weight")]) for prefix in layers]
    )
    if unplaced := sorted(name for name in weights if not name.endswith("rotary_emb.inv_freq")):
        raise ValueError(f"tensor {unplaced[0]} has no place in this model ({len(unplaced)} such tensors)")
    return out


def require_llama(model: ModelConfig) -> None:
    """Raise ValueError for a model that Hugging Face's Llama cannot be."""
    if model.style != "llama":
        raise ValueError(f"only llama-style models export to Hugging Face's Llama, this one is {model.style!r}")
    if model.moe is not None:
        raise ValueError("a model with experts (model.moe) is no Llama and has no export")


def hf_config(model: ModelConfig, dtype: torch.dtype) -> dict[str, object]:
    """Arguments of ``transformers.LlamaConfig``."""
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": model.rope_base}
    if model.rope_scaling is not None:
        rope |= {"rope_type": "llama3", "factor": model.rope_scaling, **LLAMA3_BANDS}
    return {
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden,
        "intermediate_size": model.ffn_hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_width,
        "max_position_embeddings": model.seq_len,
        "rms_norm_eps": model.norm_eps,
        "initializer_range": model.init_std,
        "rope_parameters": rope,
        "tie_word_embeddings": model.tie_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": dtype,
    }


def model_config(theirs: Any) -> ModelConfig:
    """Our config of a ``transformers`` config.

    Raises:
        ValueError: another family, or a key of its config asks for what our model does not have; the key and its value are named.
    """
    if theirs.model_type != "llama":
        raise ValueError(f"model_type {theirs.model_type!r} is not llama")
    for key, wanted in (("attention_bias", False), ("mlp_bias", False), ("hidden_act", "silu")):
        if getattr(theirs, key) != wanted:
            raise ValueError(f"{key} {getattr(theirs, key)!r} is not supported, only {wanted!r}")
    rope = dict(theirs.rope_parameters)
    kind, theta = rope.pop("rope_type", "default"), float(rope.pop("rope_theta"))
    factor = rope.pop("factor", None) if kind == "llama3" else None
    bands = LLAMA3_BANDS if kind == "llama3" else {}
    if kind not in ("default", "llama3") or {key: value for key, value in rope.items() if value is not None} != bands:
        raise ValueError(
            f"rope_parameters (rope_scaling) {theirs.rope_parameters} are not supported, only default and llama3 with {LLAMA3_BANDS}"
        )
    width = theirs.head_dim or theirs.hidden_size // theirs.num_attention_heads
    return ModelConfig(
        style="llama",
        layers=theirs.num_hidden_layers,
        hidden=theirs.hidden_size,
        heads=theirs.num_attention_heads,
        kv_heads=theirs.num_key_value_heads,
        ffn_hidden=theirs.intermediate_size,
        seq_len=theirs.max_position_embeddings,
        vocab_size=theirs.vocab_size,
        tie_embeddings=theirs.tie_word_embeddings,
        rope_base=theta,
        norm_eps=theirs.rms_norm_eps,
        init_std=theirs.initializer_range,
        head_dim=None if width * theirs.num_attention_heads == theirs.hidden_size else width,
        rope_scaling=factor,
    )
