"""Configs of Hugging Face's families and of our model, one from the other.

A family is Llama with the parts of :class:`~modelyard.model.network.variant.Variant` that it always has and those that its config may give. What has
no place in our model (biases elsewhere, other activations, LongRoPE) is refused by the name of its key. Left out: models with experts, and families
whose blocks are put together differently (Gemma 2 and 3, Phi 3, OLMo 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import torch

from modelyard.model.hf import llava
from modelyard.model.network.model_config import Family, ModelConfig
from modelyard.model.network.rope import DynamicScaling, LinearScaling, Llama3Scaling, RopeScaling, YarnScaling
from modelyard.model.network.variant import LLAMA, Variant

SCALINGS: dict[str, type[LinearScaling | DynamicScaling | Llama3Scaling | YarnScaling]] = {
    "linear": LinearScaling,
    "dynamic": DynamicScaling,
    "llama3": Llama3Scaling,
    "yarn": YarnScaling,
}
WINDOWED, FULL = "sliding_attention", "full_attention"


class Form(NamedTuple):
    """A family's parts."""

    always: Mapping[str, object]
    """What every model of it has."""
    may: tuple[str, ...] = ()
    """What its config says."""


FORMS: dict[Family, Form] = {
    "llama": Form({}),
    "mistral": Form({}, ("window",)),
    "qwen2": Form({"qkv_bias": True}, ("window", "window_layers")),
    "qwen3": Form({"qk_norm": True}, ("window", "window_layers")),
    "gemma": Form({"gate": "gelu_tanh", "zero_centred_norms": True, "scaled_embedding": True}),
    "smollm3": Form({}, ("no_rope_layers", "window", "window_layers")),
}
"""In the order in which :func:`family_of` tries them."""


def family_of(model: ModelConfig) -> Family:
    """The family that a model is exported as. Raises ValueError for a model that no family, or not the one it names, has a place for."""
    if model.style != "llama":
        raise ValueError(f"only llama-style models export to Hugging Face, this one is {model.style!r}")
    if model.moe is not None:
        raise ValueError("a model with experts (model.moe) has no export")
    for family in (model.family,) if model.family else FORMS:
        if _fits(model.variant, FORMS[family]):
            return family
    parts = ", ".join(key for key in Variant.model_fields if getattr(model.variant, key) != getattr(LLAMA, key))
    if model.family:
        raise ValueError(f"model.family {model.family!r} is not what model.variant says ({parts or 'all defaults'})")
    raise ValueError(f"no family of Hugging Face has a place for model.variant's {parts}")


def _fits(variant: Variant, form: Form) -> bool:
    fixed = {key: form.always.get(key, getattr(LLAMA, key)) for key in Variant.model_fields if key not in form.may}
    return all(getattr(variant, key) == value for key, value in fixed.items())


def hf_config(model: ModelConfig, dtype: torch.dtype, **more: object) -> Any:
    """transformers' config of the model, with ``more`` of its keys. Raises ValueError as :func:`family_of`."""
    from transformers import AutoConfig

    family, variant = family_of(model), model.variant
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": model.rope_base}
    if model.rope_scaling is not None:
        told = model.rope_scaling.model_dump(exclude={"kind"}, exclude_none=True)
        if isinstance(model.rope_scaling, DynamicScaling):  # transformers scales beyond max_position_embeddings
            told.pop("original_max_position_embeddings", None)
        rope |= {"rope_type": model.rope_scaling.kind, **told}
    settings: dict[str, object] = {
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden,
        "intermediate_size": model.ffn_hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "max_position_embeddings": model.released_len,
        "rms_norm_eps": model.norm_eps,
        "initializer_range": model.init_std,
        "rope_parameters": rope,
        "tie_word_embeddings": model.tie_embeddings,
        "dtype": dtype,
        **more,
    }
    if model.head_dim is not None or hasattr(AutoConfig.for_model(family), "head_dim"):
        settings["head_dim"] = model.head_width
    if "window" in FORMS[family].may:
        settings["sliding_window"] = variant.window
    if "window_layers" in FORMS[family].may:
        settings["use_sliding_window"] = variant.window is not None
        windows = variant.windows(model.layers)
        settings["layer_types"] = [FULL if window is None else WINDOWED for window in windows]
        if variant.window is not None and family != "smollm3":
            settings["max_window_layers"] = next(layer for layer, window in enumerate(windows) if window is not None)
    if "no_rope_layers" in FORMS[family].may:
        settings["no_rope_layers"] = [int(layer not in variant.no_rope_layers) for layer in range(model.layers)]
    return AutoConfig.for_model(family, **settings)


def model_config(theirs: Any) -> ModelConfig:
    """Our config of a ``transformers`` config.

    Raises:
        ValueError: another family, or a key of its config asks for what our model does not have; the key and its value are named.
    """
    if theirs.model_type == llava.MODEL_TYPE:
        language = model_config(theirs.text_config).model_dump() | {"tie_embeddings": theirs.tie_word_embeddings}
        return ModelConfig.model_validate({**language, "vision": llava.vision_config(theirs)})
    family = theirs.model_type
    if family not in FORMS:
        raise ValueError(f"model_type {family!r} is not supported, only {', '.join(get_args(Family))}")
    wanted: dict[str, object] = {"attention_bias": False, "mlp_bias": False, "use_bidirectional_attention": False}
    wanted["hidden_act"] = "gelu_pytorch_tanh" if family == "gemma" else "silu"
    for key, value in wanted.items():
        if (found := getattr(theirs, key, None)) is not None and found != value:
            raise ValueError(f"{key} {found!r} is not supported, only {value!r}")
    theta, scaling = _rope(theirs)
    width = getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads
    variant = Variant.model_validate({**FORMS[family].always, **_window(theirs), **_no_rope(theirs)})
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
        rope_scaling=scaling,
        variant=variant,
        family=family,
    )


def _rope(theirs: Any) -> tuple[float, RopeScaling | None]:
    """Base of the frequencies and how they are scaled."""
    given = {key: value for key, value in dict(theirs.rope_parameters).items() if value is not None}
    older = given.pop("type", "default")  # the key's name in older configs, which transformers keeps beside the one it goes by
    kind, theta = given.pop("rope_type", older), float(given.pop("rope_theta"))
    if given.pop("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(f"rope_parameters {theirs.rope_parameters}: positions on part of a head are not supported")
    if kind == "default":
        return theta, None
    if kind not in SCALINGS:
        raise ValueError(f"rope_parameters (rope_scaling): {kind!r} is not supported, only default, {', '.join(SCALINGS)}")
    if kind in ("linear", "dynamic"):  # some configs give a length here, at which neither looks
        given.pop("original_max_position_embeddings", None)
        if kind == "dynamic":
            given["original_max_position_embeddings"] = theirs.max_position_embeddings
    elif kind == "yarn" and "factor" not in given:
        given["factor"] = theirs.max_position_embeddings / given.get("original_max_position_embeddings", theirs.max_position_embeddings)
    return theta, SCALINGS[kind].model_validate(given)


def _window(theirs: Any) -> dict[str, object]:
    kinds = getattr(theirs, "layer_types", None)
    width = getattr(theirs, "sliding_window", None)
    if kinds is None or theirs.model_type == "mistral":  # Mistral's attention does not look at the layers' kinds
        return {"window": width}
    if odd := next((kind for kind in kinds if kind not in (FULL, WINDOWED)), None):
        raise ValueError(f"layer_types: {odd!r} is not supported, only {FULL} and {WINDOWED}")
    layers = tuple(layer for layer, kind in enumerate(kinds) if kind == WINDOWED)
    if not layers or width is None or not getattr(theirs, "use_sliding_window", False):
        return {}
    return {"window": width, "window_layers": None if len(layers) == len(kinds) else layers}


def _no_rope(theirs: Any) -> dict[str, object]:
    rotated = getattr(theirs, "no_rope_layers", None) or ()
    return {"no_rope_layers": tuple(layer for layer, rotates in enumerate(rotated[: theirs.num_hidden_layers]) if not rotates)}
