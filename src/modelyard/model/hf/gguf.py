"""A GGUF file of the Llama family as a Hugging Face directory: dequantised weights in float32, config, tokenizer and chat template.

transformers knows the format (blocks, names, the permuted query and key rows); its ``from_pretrained`` for GGUF needs a further package only to
place weights on devices, so its reader is called directly. Weights of a quantised file are near, not equal to, the released ones.
"""

from __future__ import annotations

from pathlib import Path

import torch


def to_hf(file: Path, out: Path) -> None:
    """Write ``file`` as the Hugging Face directory ``out``.

    Raises:
        ValueError: the file is no GGUF or no Llama.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    if file.open("rb").read(4) != b"GGUF":
        raise ValueError(f"{file}: not a GGUF file")
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    if config.model_type != "llama":
        raise ValueError(f"{file}: model_type {config.model_type!r} is not llama")
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
