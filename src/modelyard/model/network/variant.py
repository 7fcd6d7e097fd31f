"""What sets the layers of Mistral, Qwen, Gemma and SmolLM apart from Llama's, part by part.

A variant of the Llama style is a choice of these parts; which family of models has which is :mod:`modelyard.model.hf.families`'. Left out: biases on
the other products, norms behind blocks and soft caps (Gemma 2 and 3), windows of a different width in different layers.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from modelyard.config import Config


class Variant(Config):
    """Parts in which a model differs from Llama; the defaults are Llama's."""

    qkv_bias: bool = False
    """Biases on queries, keys and values (Qwen 2)."""
    qk_norm: bool = False
    """RMSNorm of every query and key before its rotation (Qwen 3)."""
    window: int | None = Field(default=None, ge=1)
    """Tokens that a token sees, itself included (Jiang et al. 2023, section 2); absent: all before it."""
    window_layers: tuple[int, ...] | None = None
    """Layers, from 0, that the window limits; absent: all."""
    no_rope_layers: tuple[int, ...] = ()
    """Layers, from 0, whose queries and keys are not rotated (SmolLM3)."""
    gate: Literal["silu", "gelu_tanh"] = "silu"
    """Function of the feed-forward block's gate; Gemma's is GELU by its approximation with tanh."""
    zero_centred_norms: bool = False
    """Norms multiply by 1 + weight (Gemma)."""
    scaled_embedding: bool = False
    """Embeddings are multiplied by the root of ``hidden`` (Gemma)."""

    @model_validator(mode="after")
    def _window(self) -> Variant:
        if self.window is None and self.window_layers is not None:
            raise ValueError("window_layers without a window")
        return self

    def windows(self, layers: int) -> list[int | None]:
        """The window of each of ``layers`` layers."""
        return [self.window if self.window_layers is None or layer in self.window_layers else None for layer in range(layers)]

    def check(self, layers: int) -> None:
        """Raise ValueError where a layer is named that a model of ``layers`` layers does not have."""
        for key, named in (("window_layers", self.window_layers or ()), ("no_rope_layers", self.no_rope_layers)):
            if odd := [layer for layer in named if not 0 <= layer < layers]:
                raise ValueError(f"variant.{key}: {odd[0]} is no layer of {layers}")


LLAMA = Variant()
