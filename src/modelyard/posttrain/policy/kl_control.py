"""The KL coefficient as a controller: optional, InstructGPT keeps it fixed.

Ziegler et al. (arXiv:1909.08593, section 2.2): e = clip(KL / target - 1, -0.2, 0.2), beta <- beta (1 + K e). Their K of 0.1 is for a step of
one batch, as here. The coefficient of an iteration is a function of the KLs before it, so nothing about it has to be saved and a resumed run
goes on with the same one.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import model_validator

from modelyard.config import Config

LARGEST_ERROR = 0.2


class AdaptiveKLConfig(Config):
    """Moves the KL coefficient so that the policy stays about ``target`` away from the SFT model."""

    target: float
    """Mean KL of an iteration's sequences to aim at, in nats."""
    gain: float
    """K: how fast the coefficient follows (Ziegler et al.: 0.1, a change of at most 2% an iteration)."""

    @model_validator(mode="after")
    def _fits(self) -> AdaptiveKLConfig:
        if self.target <= 0 or not 0 < self.gain * LARGEST_ERROR < 1:
            raise ValueError(f"target must be positive and gain lie in (0, {1 / LARGEST_ERROR:g}), got {self.target} and {self.gain}")
        return self


def coefficient(initial: float, control: AdaptiveKLConfig | None, measured: Iterable[float]) -> float:
    """The coefficient after iterations whose mean sequence KLs were ``measured`` (nats); ``initial`` without a controller."""
    if control is None:
        return initial
    current = initial
    for kl in measured:
        error = min(max(kl / control.target - 1, -LARGEST_ERROR), LARGEST_ERROR)
        current *= 1 + control.gain * error
    return current
