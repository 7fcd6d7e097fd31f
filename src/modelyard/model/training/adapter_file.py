"""Adapters as PEFT's files: ``adapter_config.json``, ``adapter_model.safetensors`` with the names of Hugging Face's layout, and ``base.json``.

The first two are read by ``peft.PeftModel.from_pretrained`` over the exported base; ``base.json`` says by hash which checkpoint of ours stands below.
A scalar head is a ``score`` that was trained beside the adapters, as PEFT's sequence classification has it; Hugging Face's has no bias, so theirs
differs from ours by that constant. Left out: everything of PEFT's that is no plain LoRA (refused by name).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor

from modelyard.complaint import complaint, first_error
from modelyard.formats import json_file
from modelyard.model.network.lora import LoRAConfig, Target, adapted
from modelyard.model.training.engine import Engine

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"
FILES = (BASE, WEIGHTS, CONFIG)
PREFIX = "base_model.model."
SCORE = f"{PREFIX}score."
BLOCKS: dict[Target, str] = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), "self_attn"),
    **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), "mlp"),
}
PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    "fan_in_fan_out": False,
    "use_dora": False,
    "use_rslora": False,
    "lora_bias": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "layers_to_transform": None,
    "layers_pattern": None,
    "layer_replication": None,
    "exclude_modules": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "modules_to_save": None,
}
"""Keys of PEFT's config with the only values that are read (an absent or empty one is as good)."""


class Adapter(NamedTuple):
    """What an adapter's directory holds."""

    lora: LoRAConfig
    tensors: Mapping[str, Tensor]
    """Under PEFT's names."""
    base: str
    """Hash of the checkpoint of ours that it was trained on; "" for others' adapters."""
    path: Path


def names(layer: int, target: Target) -> tuple[str, str]:
    """PEFT's names of a matrix's A and B."""
    stem = f"{PREFIX}model.layers.{layer}.{BLOCKS[target]}.{target}"
    return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"


def write(engine: Engine, base: str, out: Path) -> None:
    """Write the adapters of ``engine``; ``base`` names what they belong to. Every rank calls it, and rank 0 writes."""
    from safetensors.torch import save_file

    assert engine.lora is not None
    tensors = _gathered(engine)
    if dist.get_rank() > 0:
        return
    scalar = engine.head == "scalar"
    config = {
        **PLAIN,
        "task_type": "SEQ_CLS" if scalar else "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": engine.lora.rank,
        "lora_alpha": engine.lora.alpha,
        "lora_dropout": engine.lora.dropout,
        "target_modules": list(engine.lora.targets),
        "modules_to_save": ["score"] if scalar else None,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG).write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    (out / BASE).write_text(json.dumps({"checkpoint": engine.base, "name": base}, indent=1) + "\n", "utf-8")


def _gathered(engine: Engine) -> dict[str, Tensor]:
    """All adapters, whole, on rank 0; each stage of the pipeline sends its own."""
    mine: dict[str, Tensor] = {}
    for layer, _, linear in adapted(engine.gpt):
        for target, pair in linear.adapters.whole().items():
            mine |= {name: part.cpu().contiguous() for name, part in zip(names(layer, target), pair, strict=True)}
    if engine.head == "scalar" and engine.layout.is_last_stage:
        head = engine.gpt.output_layer
        mine |= {f"{SCORE}{name}": getattr(head, name).detach().cpu().clone() for name in ("weight", "bias")}
    if engine.layout.pp == 1:
        return mine
    sends = engine.layout.tp_rank == engine.layout.sampler == 0
    parts: list[dict[str, Tensor]] = [{}] * dist.get_world_size()
    dist.all_gather_object(parts, mine if sends else {})
    return {name: tensor for part in parts for name, tensor in part.items()}


def read(directory: Path) -> Adapter:
    """An adapter of ours or of PEFT's.

    Raises:
        ValueError: a file is missing or damaged, or it is no plain LoRA; one line naming file and key.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = directory / CONFIG
    config = json_file.table(path, "r", "lora_alpha", "target_modules")
    for key, value in PLAIN.items():
        if (found := config.get(key)) and found != value and not (key == "modules_to_save" and found == ["score"]):
            raise ValueError(f"{path}: {key} {found!r} is not supported, only plain LoRA is ({value!r})")
    targets = config["target_modules"]
    if not isinstance(targets, list):
        raise ValueError(f"{path}: target_modules: expected a list of names, got {targets!r}")
    given = {"rank": config["r"], "alpha": config["lora_alpha"], "dropout": config.get("lora_dropout") or 0.0, "targets": targets}
    try:
        lora = LoRAConfig.model_validate(given)
    except ValidationError as error:
        raise ValueError(f"{path}: {first_error(error)}") from None
    try:
        tensors = load_file(directory / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{directory / WEIGHTS}: no safetensors file: {complaint(error)}") from None
    base = json_file.table(directory / BASE, "checkpoint")["checkpoint"] if (directory / BASE).is_file() else ""
    return Adapter(lora, tensors, str(base), directory)


def merge(adapter: Adapter, weights: dict[str, Tensor]) -> None:
    """Merge an adapter into the state dict of a Hugging Face causal language model, in place, as PEFT does.

    Raises:
        ValueError: a tensor of the adapter is missing, has another shape or belongs to no matrix of the model.
    """
    path, unused = adapter.path / WEIGHTS, set(adapter.tensors)
    layers = sum(name.endswith(".self_attn.q_proj.weight") for name in weights)
    for layer in range(layers):
        for target in adapter.lora.targets:
            pair, place = names(layer, target), f"model.layers.{layer}.{BLOCKS[target]}.{target}.weight"
            if missing := next((name for name in pair if name not in adapter.tensors), None):
                raise ValueError(f"{path}: no tensor {missing}")
            a, b = (adapter.tensors[name].float() for name in pair)
            if (b.shape[0], a.shape[1]) != tuple(weights[place].shape) or a.shape[0] != b.shape[1]:
                raise ValueError(f"{path}: {pair[0]}: a matrix of {tuple(weights[place].shape)} has no place for it")
            weights[place] = weights[place].clone().add_((b @ a) * adapter.lora.scale)
            unused -= {*pair}
    if unused:
        raise ValueError(f"{path}: tensor {sorted(unused)[0]} has no place in this model ({len(unused)} such tensors)")


def take(engine: Engine, adapter: Adapter) -> None:
    """Give an engine built with ``adapter.lora`` the adapter's values (and head, if it has one), at any layout.

    Raises:
        ValueError: a tensor is missing, has another shape or no place in the model.
    """
    unused = set(adapter.tensors)
    path = adapter.path / WEIGHTS

    def given(name: str) -> Tensor:
        if name not in adapter.tensors:
            raise ValueError(f"{path}: no tensor {name}")
        return adapter.tensors[name]

    for layer, _, linear in adapted(engine.gpt):
        for target in linear.adapters.names:
            a, b = names(layer, target)
            try:
                linear.adapters.take(target, given(a), given(b))
            except ValueError as error:
                raise ValueError(f"{path}: layer {layer}: {error}") from None
    if engine.head == "scalar" and engine.layout.is_last_stage:
        head = engine.gpt.output_layer
        with torch.no_grad():
            head.weight.copy_(given(f"{SCORE}weight"))
            head.bias.copy_(given(f"{SCORE}bias"))
    known = {name for layer in range(engine.model.layers) for target in adapter.lora.targets for name in names(layer, target)}
    if odd := sorted(name for name in unused - known if not name.startswith(SCORE)):
        raise ValueError(f"{path}: tensor {odd[0]} has no place in this model ({len(odd)} such tensors)")
    if engine.optimizer is not None:
        engine.optimizer.reload_model_params()
