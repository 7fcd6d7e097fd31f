"""Tensors of Hugging Face's Llama family and of megatron-core's GPTModel, one from the other.

A distributed checkpoint stores every tensor whole under its global name (layers stacked in a leading dimension), so conversion reads and
writes those names and cannot depend on the tensor or pipeline layout that wrote them. megatron-core interleaves query, key and value rows
per group and stacks gate over up; Hugging Face keeps them apart. No arithmetic happens here: a round trip is bit-identical.
A tensor that has no place in our model is refused by name.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from modelyard.model.checkpoints import metadata_check
from modelyard.model.hf import llava
from modelyard.model.network.model_config import ModelConfig

Weights = dict[str, Tensor]

_LAYER = "decoder.layers."
_PLAIN = {
    "self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
    "self_attention.linear_proj.weight": "self_attn.o_proj.weight",
    "mlp.linear_fc1.layer_norm_weight": "post_attention_layernorm.weight",
    "mlp.linear_fc2.weight": "mlp.down_proj.weight",
}
_HEAD_NORMS = {
    "self_attention.q_layernorm.weight": "self_attn.q_norm.weight",
    "self_attention.k_layernorm.weight": "self_attn.k_norm.weight",
}


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


def _plain(model: ModelConfig) -> dict[str, str]:
    """Our names and theirs of a layer's tensors that are the same."""
    return {**_PLAIN, **(_HEAD_NORMS if model.variant.qk_norm else {})}


def _qkv(model: ModelConfig) -> tuple[tuple[str, ...], dict[str, int]]:
    """Kinds of tensors (weight, bias) that queries, keys and values have, and how many rows of each stand in a key group."""
    rows = {"q": model.heads // model.kv_heads * model.head_width, "k": model.head_width, "v": model.head_width}
    return ("weight", "bias") if model.variant.qkv_bias else ("weight",), rows


def to_hf(weights: Weights, model: ModelConfig) -> Weights:
    """Global megatron tensors -> state dict of a causal language model, or of one that is shown images. Rows that pad the vocabulary are left
    behind."""
    if model.vision is not None:
        language = to_hf(weights, model.model_copy(update={"vision": None}))
        renamed = {
            name if name == "lm_head.weight" else llava.LANGUAGE + name.removeprefix("model."): part for name, part in language.items()
        }
        return renamed | llava.to_hf(weights, model.vision)
    kinds, rows = _qkv(model)
    out = {
        "model.embed_tokens.weight": weights["embedding.word_embeddings.weight"][: model.vocab_size],
        "model.norm.weight": weights["decoder.final_layernorm.weight"],
    }
    if not model.tie_embeddings:
        out["lm_head.weight"] = weights["output_layer.weight"][: model.vocab_size]
    for layer in range(model.layers):
        prefix = f"model.layers.{layer}."
        for ours, theirs in _plain(model).items():
            out[prefix + theirs] = weights[_LAYER + ours][layer]
        for kind in kinds:
            groups = weights[f"{_LAYER}self_attention.linear_qkv.{kind}"][layer].unflatten(0, (model.kv_heads, -1))
            for name, part in zip(rows, groups.split(list(rows.values()), 1), strict=True):
                out[f"{prefix}self_attn.{name}_proj.{kind}"] = part.flatten(0, 1)
        gate, up = weights[_LAYER + "mlp.linear_fc1.weight"][layer].chunk(2)
        out[prefix + "mlp.gate_proj.weight"], out[prefix + "mlp.up_proj.weight"] = gate, up
    return {name: tensor.contiguous().clone() for name, tensor in out.items()}


def from_hf(weights: Weights, model: ModelConfig) -> Weights:
    """State dict of a causal language model -> global megatron tensors (layers stacked).

    Raises:
        ValueError: a tensor is missing or has no place in our model (a bias, an untied head of a tied model), named.
    """
    if model.vision is not None:
        seeing, language = llava.from_hf(weights, model.vision)
        return seeing | from_hf(language, model.model_copy(update={"vision": None}))
    kinds, rows = _qkv(model)
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
    for ours, theirs in _plain(model).items():
        out[_LAYER + ours] = torch.stack([take(prefix + theirs) for prefix in layers])

    def qkv(prefix: str, kind: str) -> Tensor:
        parts = [take(f"{prefix}self_attn.{name}_proj.{kind}").unflatten(0, (model.kv_heads, size)) for name, size in rows.items()]
        return torch.cat(parts, 1).flatten(0, 1)

    for kind in kinds:
        out[f"{_LAYER}self_attention.linear_qkv.{kind}"] = torch.stack([qkv(prefix, kind) for prefix in layers])
    out[_LAYER + "mlp.linear_fc1.weight"] = torch.stack(
        [torch.cat([take(prefix + "mlp.gate_proj.weight"), take(prefix + "mlp.up_proj.weight")]) for prefix in layers]
    )
    if unplaced := sorted(name for name in weights if not name.endswith("rotary_emb.inv_freq")):
        raise ValueError(f"tensor {unplaced[0]} has no place in this model ({len(unplaced)} such tensors)")
    return out
