"""The shape of a model of others, read from its config or the head of its GGUF file; no weights are loaded."""

from __future__ import annotations

from pathlib import Path

from modelyard.complaint import complaint
from modelyard.model.hf.families import model_config
from modelyard.model.network.model_config import ModelConfig


def shape_of(path: Path) -> ModelConfig:
    """Shape of the model in a Hugging Face directory or a GGUF file. Raises ValueError naming it where it is none that we run."""
    from transformers import AutoConfig

    try:
        if path.is_file():
            return model_config(AutoConfig.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False))
        return model_config(AutoConfig.from_pretrained(path, trust_remote_code=False))
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path}: {complaint(error)}") from None
