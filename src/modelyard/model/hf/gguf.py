"""A GGUF file of the Llama family as a Hugging Face directory: dequantised weights in float32, config, tokenizer and chat template.

transformers knows the format (blocks, names, the permuted query and key rows); its ``from_pretrained`` for GGUF needs a further package only to
place weights on devices, so its reader is called directly. It does not look at how rotary positions are scaled, which is read here. Weights of a
quantised file are near, not equal to, the released ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from modelyard.model.network import rope

FREQUENCIES = "rope_freqs.weight"
"""What each rotary frequency is divided by, as llama.cpp writes it for Llama 3.1 and later."""
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@contextmanager
def as_directory(model: Path, scratch: Path) -> Iterator[Path]:
    """A model that is read as a Hugging Face directory: itself, or of a GGUF file one that is in ``scratch`` for as long.

    Where ``scratch`` is not there yet it stands in what is to hold it, and nothing is left behind. Raises ValueError as :func:`to_hf`.
    """
    if not model.is_file():
        yield model
        return
    there = next(place for place in (scratch, *scratch.parents) if place.is_dir())
    with TemporaryDirectory(prefix=".gguf-", dir=there) as directory:
        to_hf(model, Path(directory))
        yield Path(directory)


def to_hf(file: Path, out: Path) -> None:
    """Write ``file`` as the Hugging Face directory ``out``.

    Raises:
        ValueError: the file is no GGUF, no Llama, or scales positions in a way that has no name.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    if file.open("rb").read(4) != b"GGUF":
        raise ValueError(f"{file}: not a GGUF file")
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    if config.model_type != "llama":
        raise ValueError(f"{file}: model_type {config.model_type!r} is not llama")
    theta, width = float(config.rope_parameters["rope_theta"]), config.head_dim or config.hidden_size // config.num_attention_heads
    config.rope_parameters = {"rope_theta": theta, **scaling(file, theta, width)}
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    weights = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=model)["tensors"]
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False).save_pretrained(out)


def scaling(file: Path, theta: float, width: int) -> dict[str, object]:
    """How the file scales rotary positions of base ``theta`` on heads of ``width``, in transformers' words.

    Raises:
        ValueError: in a way that transformers has no name for; one line naming the file and the key or tensor.
    """
    from gguf import GGUFReader

    reader = GGUFReader(file)
    divisors = next((tensor.data for tensor in reader.tensors if tensor.name == FREQUENCIES), None)
    if divisors is not None:
        return _llama3(file, torch.tensor(divisors), theta, width)
    kind = _value(reader, "scaling.type") or ("linear" if _value(reader, "scale_linear") else "none")
    if kind == "none":
        return {"rope_type": "default"}
    factor = _value(reader, "scaling.factor") or _value(reader, "scale_linear")
    if factor is None:
        raise ValueError(f"{file}: llama.rope.scaling.type is {kind!r} without a scaling.factor")
    if kind == "linear":
        return {"rope_type": "linear", "factor": float(factor)}
    length = _value(reader, "scaling.original_context_length")
    if kind != "yarn" or length is None:
        raise ValueError(f"{file}: llama.rope.scaling.type {kind!r} (original_context_length {length}) is not supported")
    return {"rope_type": "yarn", "factor": float(factor), "original_max_position_embeddings": int(length)}


def _value(reader: Any, key: str) -> Any:
    field = reader.get_field(f"llama.rope.{key}")
    return None if field is None else field.contents()


def _llama3(file: Path, divisors: torch.Tensor, theta: float, width: int) -> dict[str, object]:
    """Llama 3.1's scaling by the largest of its divisors. Raises ValueError where the others are not those of its bands."""
    factor = float(divisors.max())
    wanted = rope.frequencies(theta, width, None) / rope.frequencies(
        theta, width, rope.Llama3Scaling.model_validate({"factor": factor, **LLAMA3})
    )
    if divisors.shape != wanted.shape or not torch.allclose(divisors, wanted, rtol=1e-3):
        raise ValueError(f"{file}: {FREQUENCIES} are not the bands of Llama 3.1 ({LLAMA3})")
    return {"rope_type": "llama3", "factor": factor, **LLAMA3}
