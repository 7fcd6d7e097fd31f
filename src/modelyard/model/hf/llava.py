"""Models that are shown images as transformers' ``LlavaNextForConditionalGeneration``: config, weights and the processor's files, both ways.

The patch encoder is a ``SiglipVisionModel`` whose last block's output is read, so the norm behind it is written as what it is not used for (ones and
zeros) and left behind when a model comes back; of a model that reads an earlier block only the blocks up to that one come. The processor writes an
image's placeholders itself, from a chat template that takes content parts; how it cuts images is what :mod:`modelyard.model.pictures` does. Left out:
CLIP's tower (a class token), several feature layers, projectors without biases.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modelyard.formats import json_file
from modelyard.model.encoder import Encoder
from modelyard.model.image_token import IMAGE
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.network.vision import VisionConfig

MODEL_TYPE, TOWER = "llava_next", "siglip_vision_model"
LANGUAGE = "model.language_model."
PROCESSOR, PREPROCESSOR, TEMPLATE = "processor_config.json", "preprocessor_config.json", "chat_template.jinja"
PARTS = (
    "{%- set flat = namespace(messages=[]) -%}{%- for message in messages -%}{%- if message['content'] is string -%}"
    "{%- set flat.messages = flat.messages + [message] -%}{%- else -%}{%- set said = namespace(text='') -%}"
    "{%- for part in message['content'] -%}{%- if part['type'] == 'image' -%}{%- set said.text = said.text + '" + IMAGE + "' -%}"
    "{%- elif part['type'] == 'text' -%}{%- set said.text = said.text + part['text'] -%}{%- endif -%}{%- endfor -%}"
    "{%- set flat.messages = flat.messages + [{'role': message['role'], 'content': said.text}] -%}{%- endif -%}{%- endfor -%}"
    "{%- set messages = flat.messages -%}"
)
"""What stands before a chat template that knows texts only, so that it takes content parts."""

_BLOCK = "vision.block.layers."
_PLAIN = {
    "self_attention.linear_qkv.layer_norm_weight": "layer_norm1.weight",
    "self_attention.linear_qkv.layer_norm_bias": "layer_norm1.bias",
    "self_attention.linear_proj.weight": "self_attn.out_proj.weight",
    "self_attention.linear_proj.bias": "self_attn.out_proj.bias",
    "mlp.linear_fc1.layer_norm_weight": "layer_norm2.weight",
    "mlp.linear_fc1.layer_norm_bias": "layer_norm2.bias",
    "mlp.linear_fc1.weight": "mlp.fc1.weight",
    "mlp.linear_fc1.bias": "mlp.fc1.bias",
    "mlp.linear_fc2.weight": "mlp.fc2.weight",
    "mlp.linear_fc2.bias": "mlp.fc2.bias",
}
_OUTSIDE = {
    "vision.patches.bias": "model.vision_tower.embeddings.patch_embedding.bias",
    "vision.positions": "model.vision_tower.embeddings.position_embedding.weight",
    "vision.projector.linear_1.weight": "model.multi_modal_projector.linear_1.weight",
    "vision.projector.linear_1.bias": "model.multi_modal_projector.linear_1.bias",
    "vision.projector.linear_2.weight": "model.multi_modal_projector.linear_2.weight",
    "vision.projector.linear_2.bias": "model.multi_modal_projector.linear_2.bias",
    "vision.newline": "model.image_newline",
}
_PATCHES = "model.vision_tower.embeddings.patch_embedding.weight"
_UNUSED = ("model.vision_tower.post_layernorm.", "model.vision_tower.head.")


def hf_config(model: ModelConfig, text: Any, placeholder: int) -> Any:
    """transformers' config of a model that is shown images, ``text`` being that of its language model."""
    from transformers import LlavaNextConfig, SiglipVisionConfig

    vision = model.vision
    assert vision is not None
    tower = SiglipVisionConfig(
        hidden_size=vision.hidden,
        intermediate_size=vision.ffn_hidden,
        num_hidden_layers=vision.layers,
        num_attention_heads=vision.heads,
        image_size=vision.tile,
        patch_size=vision.patch,
        layer_norm_eps=vision.norm_eps,
        vision_use_head=False,
    )
    return LlavaNextConfig(
        vision_config=tower,
        text_config=text,
        image_token_index=placeholder,
        image_seq_length=vision.patches,
        image_grid_pinpoints=[[rows * vision.tile, columns * vision.tile] for rows, columns in vision.grids],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=model.tie_embeddings,
        dtype=text.dtype,
    )


def vision_config(theirs: Any) -> VisionConfig:
    """Our config of what shows images in a transformers config.

    Raises:
        ValueError: a tower or a key that ours has not; the key and its value are named.
    """
    tower = theirs.vision_config
    if tower.model_type != TOWER:
        raise ValueError(f"vision_config.model_type {tower.model_type!r} is not supported, only {TOWER}")
    wanted = {
        "vision_feature_select_strategy": (theirs, "full"),
        "projector_hidden_act": (theirs, "gelu"),
        "multimodal_projector_bias": (theirs, True),
        "hidden_act": (tower, "gelu_pytorch_tanh"),
        "num_channels": (tower, 3),
    }
    for key, (place, value) in wanted.items():
        if (found := getattr(place, key)) != value:
            raise ValueError(f"{key} {found!r} is not supported, only {value!r}")
    read, sizes = theirs.vision_feature_layer, (tower.image_size, tower.patch_size)
    if not isinstance(read, int) or not all(isinstance(size, int) for size in sizes):
        raise ValueError(f"vision_feature_layer {read!r}, image_size and patch_size {sizes!r}: only single numbers are supported")
    grids = []
    for pinpoint in theirs.image_grid_pinpoints:
        if len(pinpoint) != 2 or any(not isinstance(side, int) or side < 1 or side % tower.image_size for side in pinpoint):
            raise ValueError(f"image_grid_pinpoints: {pinpoint!r} is no grid of tiles of {tower.image_size} pixels")
        grids.append((pinpoint[0] // tower.image_size, pinpoint[1] // tower.image_size))
    layers = read if read >= 0 else tower.num_hidden_layers + 1 + read
    if not 1 <= layers <= tower.num_hidden_layers:
        raise ValueError(f"vision_feature_layer {read}: the tower has {tower.num_hidden_layers} layers")
    return VisionConfig(
        tile=tower.image_size,
        patch=tower.patch_size,
        grids=tuple(grids),
        layers=layers,
        hidden=tower.hidden_size,
        heads=tower.num_attention_heads,
        ffn_hidden=tower.intermediate_size,
        norm_eps=tower.layer_norm_eps,
    )


def to_hf(weights: dict[str, Tensor], vision: VisionConfig) -> dict[str, Tensor]:
    """Global megatron tensors of encoder and projector -> transformers' state dict."""
    out = {theirs: weights[ours] for ours, theirs in _OUTSIDE.items()}
    out[_PATCHES] = weights["vision.patches.weight"].view(vision.hidden, 3, vision.patch, vision.patch)
    for layer in range(vision.layers):
        prefix = f"model.vision_tower.encoder.layers.{layer}."
        for ours, theirs in _PLAIN.items():
            out[prefix + theirs] = weights[_BLOCK + ours][layer]
        for kind in ("weight", "bias"):
            heads = weights[f"{_BLOCK}self_attention.linear_qkv.{kind}"][layer].unflatten(0, (vision.heads, 3, -1))
            for number, name in enumerate("qkv"):
                out[f"{prefix}self_attn.{name}_proj.{kind}"] = heads[:, number].flatten(0, 1)
    like = weights["vision.newline"]
    out["model.vision_tower.post_layernorm.weight"] = torch.ones(vision.hidden, dtype=like.dtype)
    out["model.vision_tower.post_layernorm.bias"] = torch.zeros(vision.hidden, dtype=like.dtype)
    return {name: tensor.contiguous().clone() for name, tensor in out.items()}


def from_hf(weights: dict[str, Tensor], vision: VisionConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Global megatron tensors of encoder and projector, and the language model's state dict.

    Raises:
        ValueError: a tensor is missing or has no place in our model, named.
    """
    left = {named(name): tensor for name, tensor in weights.items()}

    def take(name: str) -> Tensor:
        if name not in left:
            raise ValueError(f"no tensor {name}")
        return left.pop(name)

    out = {ours: take(theirs) for ours, theirs in _OUTSIDE.items()}
    out["vision.patches.weight"] = take(_PATCHES).flatten(1)
    prefixes = [f"model.vision_tower.encoder.layers.{layer}." for layer in range(vision.layers)]
    for ours, theirs in _PLAIN.items():
        out[_BLOCK + ours] = torch.stack([take(prefix + theirs) for prefix in prefixes])
    for kind in ("weight", "bias"):
        layers = []
        for prefix in prefixes:
            parts = [take(f"{prefix}self_attn.{name}_proj.{kind}").unflatten(0, (vision.heads, -1)) for name in "qkv"]
            layers.append(torch.stack(parts, 1).flatten(0, 2))
        out[f"{_BLOCK}self_attention.linear_qkv.{kind}"] = torch.stack(layers)
    language = {}
    for name in list(left):
        if name.startswith(LANGUAGE) or name == "lm_head.weight":
            language[name.replace(LANGUAGE, "model.")] = left.pop(name)
        elif name.startswith(_UNUSED) or _beyond(name, vision.layers):
            del left[name]
    if left:
        raise ValueError(f"tensor {min(left)} has no place in this model ({len(left)} such tensors)")
    return out, language


def named(name: str) -> str:
    """A tensor's name as transformers 5 has it in memory; published checkpoints have it as transformers 4 wrote it."""
    name = name.replace("language_model.lm_head.", "lm_head.").replace("language_model.model.", "language_model.")
    name = name.replace("vision_tower.vision_model.", "vision_tower.")
    return name if name.startswith(("model.", "lm_head.")) else f"model.{name}"


def _beyond(name: str, layers: int) -> bool:
    """Whether a tensor belongs to a block of the tower behind the ``layers`` that are read."""
    found = re.match(r"model\.vision_tower\.encoder\.layers\.(\d+)\.", name)
    return found is not None and int(found[1]) >= layers


def write_processor(out: Path, vision: VisionConfig, template: str) -> None:
    """The files by which transformers cuts images and writes their placeholders."""
    side = {"height": vision.tile, "width": vision.tile}
    image: dict[str, object] = {
        "image_processor_type": "LlavaNextImageProcessor",
        "processor_class": "LlavaNextProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": side,
        "resample": 3,
        "do_center_crop": True,
        "crop_size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_pad": True,
        "image_grid_pinpoints": [[rows * vision.tile, columns * vision.tile] for rows, columns in vision.grids],
    }
    processor = {
        "processor_class": "LlavaNextProcessor",
        "image_token": IMAGE,
        "patch_size": vision.patch,
        "num_additional_image_tokens": 0,
        "vision_feature_select_strategy": "full",
    }
    (out / PREPROCESSOR).write_text(json.dumps(image, indent=2) + "\n", "utf-8")
    (out / PROCESSOR).write_text(json.dumps(processor, indent=2) + "\n", "utf-8")
    if template:
        (out / TEMPLATE).write_text(PARTS + template, "utf-8")


def check_processor(directory: Path, vision: VisionConfig) -> None:
    """Raise ValueError where a processor's file cuts images otherwise than ours would: other means, another size, another way to resize."""
    path = directory / PREPROCESSOR
    given = json_file.table(path) if path.is_file() else {}
    nested = json_file.table(directory / PROCESSOR).get("image_processor") if (directory / PROCESSOR).is_file() else None
    if not given and isinstance(nested, dict):
        path, given = directory / PROCESSOR, nested
    side = {"height": vision.tile, "width": vision.tile}
    wanted: dict[str, list[object]] = {
        "image_mean": [[0.5] * 3],
        "image_std": [[0.5] * 3],
        "size": [side, {"shortest_edge": vision.tile}],
        "resample": [3],
    }
    for key, values in wanted.items():
        if key in given and given[key] not in values:
            raise ValueError(f"{path}: {key} {given[key]!r} is not supported, only {values[0]!r}")


def placeholder_of(encoder: Encoder, path: Path) -> int:
    """The token that images stand as. Raises ValueError where the tokenizer has none."""
    if encoder.placeholder is None:
        raise ValueError(f"{path}: the model is shown images, and its tokenizer has no token {IMAGE}")
    return encoder.placeholder
