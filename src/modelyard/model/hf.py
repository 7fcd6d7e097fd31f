"""Megatron checkpoints to Hugging Face directories and back, for the Llama family.

A distributed checkpoint stores every tensor whole under its global name (layers stacked in a leading dimension), so conversion reads and
writes those names and cannot depend on the tensor or pipeline layout that wrote them. megatron-core interleaves query, key and value rows
per group and stacks gate over up; Hugging Face keeps them apart. No arithmetic happens here: a round trip is bit-identical.
Also as commands: ``python -m modelyard.model.hf import HF_DIR OUT`` and ``python -m modelyard.model.hf export MODEL_DIR HF_DIR``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from torch import Tensor

from modelyard.config import ExecutionConfig
from modelyard.model.architecture import ModelConfig, Precision
from modelyard.model.engine import Engine
from modelyard.model.model_directory import TOKENIZER_FILES, read

Weights = dict[str, Tensor]

_LAYER = "decoder.layers."
_PLAIN = {
    "self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
    "self_attention.linear_proj.weight": "self_attn.o_proj.weight",
    "mlp.linear_fc1.layer_norm_weight": "post_attention_layernorm.weight",
    "mlp.linear_fc2.weight": "mlp.down_proj.weight",
}


def read_checkpoint(directory: Path) -> Weights:
    """Every tensor of a distributed checkpoint, whole, without starting any process group."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    metadata = FileSystemReader(str(directory)).read_metadata().state_dict_metadata
    state: Weights = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    load(state, storage_reader=FileSystemReader(str(directory)), no_dist=True)
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}


def to_hf(weights: Weights, model: ModelConfig) -> Weights:
    """Global megatron tensors -> ``LlamaForCausalLM`` state dict."""
    head, group = model.hidden // model.heads, model.heads // model.kv_heads
    out = {
        "model.embed_tokens.weight": weights["embedding.word_embeddings.weight"],
        "model.norm.weight": weights["decoder.final_layernorm.weight"],
    }
    if not model.tie_embeddings:
        out["lm_head.weight"] = weights["output_layer.weight"]
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
    """``LlamaForCausalLM`` state dict -> global megatron tensors (layers stacked)."""
    head, group = model.hidden // model.heads, model.heads // model.kv_heads
    out = {
        "embedding.word_embeddings.weight": weights["model.embed_tokens.weight"],
        "decoder.final_layernorm.weight": weights["model.norm.weight"],
    }
    if not model.tie_embeddings:
        out["output_layer.weight"] = weights["lm_head.weight"]
    layers = [f"model.layers.{layer}." for layer in range(model.layers)]
    for ours, theirs in _PLAIN.items():
        out[_LAYER + ours] = torch.stack([weights[prefix + theirs] for prefix in layers])

    def qkv(prefix: str) -> Tensor:
        parts = [
            weights[f"{prefix}self_attn.{name}_proj.weight"].view(model.kv_heads, size, head, model.hidden)
            for name, size in (("q", group), ("k", 1), ("v", 1))
        ]
        return torch.cat(parts, 1).reshape(-1, model.hidden)

    out[_LAYER + "self_attention.linear_qkv.weight"] = torch.stack([qkv(prefix) for prefix in layers])
    out[_LAYER + "mlp.linear_fc1.weight"] = torch.stack(
        [torch.cat([weights[prefix + "mlp.gate_proj.weight"], weights[prefix + "mlp.up_proj.weight"]]) for prefix in layers]
    )
    return out


def hf_config(model: ModelConfig, dtype: torch.dtype) -> dict[str, object]:
    """Arguments of ``transformers.LlamaConfig``; raises ValueError for a model that is no Llama."""
    if model.style != "llama":
        raise ValueError(f"only llama-style models export to Hugging Face's Llama, this one is {model.style!r}")
    return {
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden,
        "intermediate_size": model.ffn_hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "max_position_embeddings": model.seq_len,
        "rms_norm_eps": model.norm_eps,
        "initializer_range": model.init_std,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_base},
        "tie_word_embeddings": model.tie_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": dtype,
    }


def export_hf(directory: Path, out: Path, *, end_id: int, pad_id: int) -> None:
    """Write the model directory as a Hugging Face directory: config, safetensors, generation config, tokenizer and chat template."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    model = read(directory).model
    weights = to_hf(read_checkpoint(directory / "checkpoint"), model)
    dtype = weights["model.norm.weight"].dtype
    special = {"bos_token_id": end_id, "eos_token_id": end_id, "pad_token_id": pad_id}
    with torch.device("meta"):
        llama = LlamaForCausalLM(LlamaConfig(**hf_config(model, dtype), **special))
    if model.tie_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    llama.load_state_dict(weights, assign=True)
    llama.tie_weights()
    llama.generation_config = GenerationConfig(**special, do_sample=False)
    llama.save_pretrained(out)
    for name in TOKENIZER_FILES:
        shutil.copyfile(directory / name, out / name)


def shape_of(directory: Path) -> ModelConfig:
    """The shape of a Hugging Face Llama directory.

    Raises:
        ValueError: the model is of another family, or has a part that our Llama has not.
    """
    from transformers import AutoConfig

    theirs = AutoConfig.from_pretrained(directory)
    if theirs.model_type != "llama":
        raise ValueError(f"{directory}: model type {theirs.model_type!r} is not llama")
    width = theirs.hidden_size // theirs.num_attention_heads
    for key, value, expected in (
        ("rope_type", theirs.rope_parameters.get("rope_type", "default"), "default"),
        ("attention_bias", theirs.attention_bias, False),
        ("mlp_bias", theirs.mlp_bias, False),
        ("hidden_act", theirs.hidden_act, "silu"),
        ("head_dim", getattr(theirs, "head_dim", None) or width, width),
    ):
        if value != expected:
            raise ValueError(f"{directory}: {key} {value!r} is not supported, only {expected!r}")
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
        rope_base=theirs.rope_parameters["rope_theta"],
        norm_eps=theirs.rms_norm_eps,
        init_std=theirs.initializer_range,
    )


def load(directory: Path, execution: ExecutionConfig, *, precision: Precision | None = None) -> Engine:
    """An engine with the weights of a Hugging Face Llama directory, at this run's layout, nothing written; fp32 unless told or stored as bf16.

    Raises:
        ValueError: the model is of another family or its tensors do not fit its config.
    """
    weights = read_safetensors(directory)
    stored = weights["model.embed_tokens.weight"].dtype
    engine = Engine(shape_of(directory), execution, seed=0, precision=precision or ("bf16" if stored == torch.bfloat16 else "fp32"))
    engine.take_whole(from_hf(weights, engine.model))
    return engine


def read_safetensors(directory: Path) -> Weights:
    """Every tensor of a Hugging Face directory. Raises ValueError where it holds no safetensors."""
    from safetensors.torch import load_file

    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{directory}: no *.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def import_hf(directory: Path, out: Path) -> None:
    """Write a Hugging Face Llama directory as a model directory, loadable at any layout.

    Raises:
        ValueError: the model is of another family.
    """
    import torch.distributed as dist
    from megatron.core.dist_checkpointing.mapping import ShardedTensor
    from transformers import AutoModelForCausalLM

    from modelyard.model import checkpoint, parallel

    model = shape_of(directory)
    source = AutoModelForCausalLM.from_pretrained(directory, dtype="auto")
    parallel.initialize(ExecutionConfig())
    weights = from_hf(source.state_dict(), model)
    state = {name: ShardedTensor.from_rank_offsets(name, tensor) for name, tensor in weights.items()}
    checkpoint.save({"model": state}, out / "checkpoint", {"step": 0})
    if dist.get_rank() == 0:
        precision = "bf16" if source.dtype == torch.bfloat16 else "fp32"
        (out / "model.json").write_text(json.dumps({"model": model.model_dump(), "head": "lm", "precision": precision}, indent=1))
        for name in TOKENIZER_FILES:
            shutil.copyfile(directory / name, out / name)


def main(arguments: list[str]) -> int:
    """``import HF_DIR OUT`` or ``export MODEL_DIR HF_DIR``."""
    if len(arguments) != 3 or arguments[0] not in ("import", "export"):
        print("usage: python -m modelyard.model.hf import HF_DIR OUT | export MODEL_DIR HF_DIR", file=sys.stderr)  # noqa: T201
        return 2
    source, target = Path(arguments[1]), Path(arguments[2])
    if arguments[0] == "import":
        import_hf(source, target)
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(source)
        export_hf(source, target, end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
