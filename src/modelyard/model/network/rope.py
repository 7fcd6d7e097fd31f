"""Rotary frequencies and the ways in which models were stretched beyond the lengths they were trained at.

Su et al. 2021 (arXiv:2104.09864) rotates pair i of a head of width d by position x base^(-2i / d). ``linear`` divides every frequency (Chen et al.
2023, arXiv:2306.15595), ``llama3`` the slow ones (Llama 3.1), ``yarn`` blends by frequency and scales the attention's logits (Peng et al. 2023,
arXiv:2309.00071, section 3). ``dynamic`` changes nothing up to the length a model was made for, and no model here reads more. Left out: LongRoPE's
tables of factors, and positions on part of a head.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Discriminator, Field
from torch import Tensor

from modelyard.config import Config

BETA_FAST, BETA_SLOW = 32.0, 1.0
"""YaRN's own choice of alpha and beta: rotations over the original length, section 3.2."""


class _Scaling(Config):
    factor: float = Field(gt=0)
    """By how much positions are stretched."""


class LinearScaling(_Scaling):
    """Every frequency divided by the factor."""

    kind: Literal["linear"] = "linear"
    """Which of the published scalings."""


class DynamicScaling(_Scaling):
    """The base grows with sequences longer than the original length; no model here reads one, so nothing is scaled."""

    kind: Literal["dynamic"] = "dynamic"
    """Which of the published scalings."""
    original_max_position_embeddings: int | None = Field(default=None, ge=1)
    """Length the model was made for, from which on whoever loads its export scales; absent: the model's ``seq_len``."""


class Llama3Scaling(_Scaling):
    """Slow frequencies divided by the factor, fast ones kept, those between blended."""

    kind: Literal["llama3"] = "llama3"
    """Which of the published scalings."""
    low_freq_factor: float = Field(gt=0)
    """Frequencies with fewer rotations than this over the original length are slow."""
    high_freq_factor: float = Field(gt=0)
    """Frequencies with more rotations than this are fast."""
    original_max_position_embeddings: int = Field(ge=1)
    """Length the model was pretrained at."""


class YarnScaling(_Scaling):
    """Blended by rotations over the original length, attention's logits scaled."""

    kind: Literal["yarn"] = "yarn"
    """Which of the published scalings."""
    original_max_position_embeddings: int = Field(ge=1)
    """Length the model was pretrained at."""
    beta_fast: float | None = Field(default=None, gt=0)
    """Rotations from which a frequency is kept; absent: 32."""
    beta_slow: float | None = Field(default=None, gt=0)
    """Rotations up to which a frequency is divided; absent: 1."""
    attention_factor: float | None = Field(default=None, gt=0)
    """What queries and keys are multiplied by; absent: by the paper's equation 22."""
    mscale: float | None = None
    """Weight of the logarithm in the factor's numerator, where both are given (DeepSeek)."""
    mscale_all_dim: float | None = None
    """Weight of the logarithm in its denominator."""
    truncate: bool | None = None
    """Whether the blend begins and ends at whole pairs; absent: yes."""


RopeScaling = Annotated[LinearScaling | DynamicScaling | Llama3Scaling | YarnScaling, Discriminator("kind")]


def frequencies(base: float, width: int, scaling: RopeScaling | None) -> Tensor:
    """Radians a position of each pair of a head [width / 2], fp32."""
    pairs = torch.arange(0, width, 2, dtype=torch.float32) / width
    plain = 1.0 / base**pairs
    if isinstance(scaling, LinearScaling):
        return plain / scaling.factor
    if isinstance(scaling, Llama3Scaling):
        return _llama3(plain, scaling)
    if isinstance(scaling, YarnScaling):
        return _yarn(plain, base, width, scaling)
    return plain


def amplitude(scaling: RopeScaling | None) -> float:
    """What rotated queries and keys are multiplied by."""
    if not isinstance(scaling, YarnScaling):
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return _logarithmic(scaling.factor, scaling.mscale) / _logarithmic(scaling.factor, scaling.mscale_all_dim)
    return _logarithmic(scaling.factor, 1.0)


def _logarithmic(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _llama3(plain: Tensor, scaling: Llama3Scaling) -> Tensor:
    rotations = scaling.original_max_position_embeddings * plain / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((rotations - low) / (high - low)).clamp(0, 1) if high != low else (rotations >= low).float()
    return (1 - kept) * plain / scaling.factor + kept * plain


def _yarn(plain: Tensor, base: float, width: int, scaling: YarnScaling) -> Tensor:
    def pair(rotations: float) -> float:
        """The pair that turns so often over the original length."""
        return width * math.log(scaling.original_max_position_embeddings / (rotations * 2 * math.pi)) / (2 * math.log(base))

    first, last = pair(scaling.beta_fast or BETA_FAST), pair(scaling.beta_slow or BETA_SLOW)
    if scaling.truncate is not False:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    last += 0.001 if first == last else 0  # as the published implementation, so that both blend alike
    divided = ((torch.arange(width // 2, dtype=torch.float32) - first) / (last - first)).clamp(0, 1)
    return plain / scaling.factor * divided + plain * (1 - divided)
