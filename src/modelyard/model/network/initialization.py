"""Initial weights that do not depend on how a model is split.

Every parameter is drawn whole from its own generator, seeded by (seed, global parameter name), and then cut to this rank's shard; so TP=2 or
PP=2 starts from the same model as one rank, and an expert is the same expert on whatever rank it lives. GPT-2's scheme: normal(0, std), output
projections scaled by 1/sqrt(2 layers) (Radford et al. 2019, section 2.3), norms 1 (0 where 1 is added to their weight), biases 0. Adapters begin as
PEFT's. A patch encoder and its projector begin with normal(0, 1/sqrt(inputs)), as SigLIP's patches do, with the same scaling.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container
from typing import Any

import torch
from torch import Tensor

from modelyard.model.network import lora
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.network.parallel import Layout

VISION = "vision."
"""How the names of the parameters of patch encoder and projector begin."""
EXPERTS = ".mlp.experts."
"""What stands in the names of the parameters that hold a layer's experts."""
VOCABULARY = ("embedding.word_embeddings.weight", "output_layer.weight")


def initialize_weights(gpt: Any, model: ModelConfig, layout: Layout, seed: int, names: Container[str] | None = None) -> None:
    """Fill this rank's parameters in place; ``names``: only those."""
    with torch.no_grad():
        for name, parameter in gpt.named_parameters():
            if names is not None and name not in names:
                continue
            name = _global_name(gpt, name)
            if EXPERTS in name:  # as many as are on this rank, whole
                for number, expert in enumerate(parameter, layout.ep_rank * len(parameter)):
                    expert.copy_(_draw(name.replace(EXPERTS, f"{EXPERTS}experts.{number}."), expert, model, layout, seed))
                continue
            if name == "output_layer.weight" and model.tie_embeddings and parameter.shape[0] != 1:
                name = "embedding.word_embeddings.weight"
            parameter.copy_(_shard(_draw(name, parameter, model, layout, seed), name, parameter, model, layout))


def _global_name(gpt: Any, name: str) -> str:
    """A local layer's index -> its index in the whole model."""
    prefix = "decoder.layers."  # a patch encoder has all its layers on one stage
    if not name.startswith(prefix):
        return name
    local, _, rest = name.removeprefix(prefix).partition(".")
    return f"{prefix}{gpt.decoder.layers[int(local)].layer_number - 1}.{rest}"


def _full_shape(name: str, parameter: Tensor, model: ModelConfig, layout: Layout) -> list[int]:
    shape = list(parameter.shape)
    if name in VOCABULARY and shape[0] != 1:
        shape[0] = model.vocab_size  # without the rows that pad it to a multiple of the tensor-parallel ranks
    elif getattr(parameter, "tensor_model_parallel", False):
        shape[parameter.partition_dim] *= layout.tp  # type: ignore[attr-defined]
    return shape


def _draw(name: str, parameter: Tensor, model: ModelConfig, layout: Layout, seed: int) -> Tensor:
    shape = _full_shape(name, parameter, model, layout)
    if name.endswith("bias") or f".{lora.PLACE}.b." in name:
        return torch.zeros(shape)
    if "norm" in name:
        return torch.zeros(shape) if model.variant.zero_centred_norms else torch.ones(shape)
    generator = torch.Generator().manual_seed(int(hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()[:15], 16))
    if lora.is_adapter(name):
        return (torch.rand(shape, generator=generator) * 2 - 1) * lora.initial_bound(shape[1])
    std, layers = model.init_std, model.layers
    if name.startswith(VISION):
        assert model.vision is not None
        std, layers = 1 / math.sqrt(shape[-1]), model.vision.layers
    if name.endswith(("linear_proj.weight", "linear_fc2.weight")):
        std /= math.sqrt(2 * layers)
    return torch.randn(shape, generator=generator) * std


def _shard(full: Tensor, name: str, parameter: Tensor, model: ModelConfig, layout: Layout) -> Tensor:
    if name in VOCABULARY and full.shape[0] == model.vocab_size:
        full = torch.nn.functional.pad(full, (0, 0, 0, model.padded_vocab(layout.tp) - model.vocab_size))
    if full.shape == parameter.shape:
        return full
    dim = parameter.partition_dim  # type: ignore[attr-defined]
    if "linear_fc1" in name and model.style == "llama" and not name.startswith(VISION) and not lora.is_adapter(name):
        gate, up = full.chunk(2, dim)
        return torch.cat([gate.chunk(layout.tp, dim)[layout.tp_rank], up.chunk(layout.tp, dim)[layout.tp_rank]], dim)
    return full.chunk(layout.tp, dim)[layout.tp_rank]
