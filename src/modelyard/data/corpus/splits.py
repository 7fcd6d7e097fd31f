"""Which split a row belongs to, decided before anything is filtered: held-out rows then go first through the duplicate
look-up, and whatever in training resembles them is removed.

A split is a function of (seed, group) alone, so a new source or another cap never moves a row to another side. Groups,
not rows: the sentences of one article, the passages of one play, the functions of one module stay together.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import model_validator

from modelyard.config import Config

Split = Literal["validation", "reward", "gold", "test", "train"]


class SplitsConfig(Config):
    """Shares of the splits."""

    validation: float
    """Share of groups of every source held out to measure language-model loss; of rated items these are in no rating split."""
    reward: float
    """Share of the other rated items whose votes train the reward model."""
    gold: float
    """Share whose votes train the gold reward model that judges policies."""
    test: float
    """Share that nothing is ever trained on: benchmark openings and rating accuracy."""

    @model_validator(mode="after")
    def _shares(self) -> SplitsConfig:
        if abs(self.reward + self.gold + self.test - 1) > 1e-9 or min(self.reward, self.gold, self.test, self.validation) < 0:
            raise ValueError("reward, gold and test must be shares that add up to 1")
        return self


def assign(group: str, rated: bool, config: SplitsConfig, seed: int) -> Split:
    """The split of a group."""
    if fraction(f"{seed}:validation:{group}") < config.validation:
        return "validation"
    if not rated:
        return "train"
    place = fraction(f"{seed}:rated:{group}")
    if place < config.test:
        return "test"
    return "gold" if place < config.test + config.gold else "reward"


def fraction(text: str) -> float:
    """A number in [0, 1) that depends on ``text`` only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
