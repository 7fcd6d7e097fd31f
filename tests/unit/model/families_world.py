"""Small random models of every family that is imported, as transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

VOCABULARY = 127
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 48}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24, "rope_theta": 1e4}
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("llama", {"rope_parameters": {"rope_theta": 5e5, **LLAMA3}}),
    "llama-linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 1e4}}),
    "llama-dynamic": ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
    "llama-yarn": ("llama", {"rope_parameters": YARN}),
    "llama-yarn-whole": (
        "llama",
        {"rope_parameters": {**YARN, "beta_fast": 16.0, "beta_slow": 2.0, "mscale": 0.7, "mscale_all_dim": 1.2, "truncate": False}},
    ),
    "mistral": ("mistral", {"sliding_window": 9}),
    "mistral-without-window": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "gemma": ("gemma", {"head_dim": 16, "tie_word_embeddings": True, "num_key_value_heads": 2}),
    "gemma-2b": ("gemma", {"head_dim": 16, "tie_word_embeddings": True, "num_key_value_heads": 1}),
    "qwen2-one-key": ("qwen2", {"num_key_value_heads": 1}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0, 1, 1], "use_sliding_window": True, "sliding_window": 9}),
    "smollm3-plain": ("smollm3", {"no_rope_layer_interval": 2, "tie_word_embeddings": True}),
}


def write(directory: Path, name: str, dtype: torch.dtype = torch.float32, shard: str = "20KB") -> Path:
    """The family's model with random weights, norms and biases among them, in several files."""
    from transformers import AutoConfig, AutoModelForCausalLM

    family, change = FAMILIES[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**SHAPE, **change})).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(directory, max_shard_size=shard)
    write_tokenizer(directory)
    return directory


def write_tokenizer(directory: Path) -> None:
    """A tokenizer of a few words, with a token that ends texts."""
    Tokenizer(WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2, "a": 3}, unk_token="a")).save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
