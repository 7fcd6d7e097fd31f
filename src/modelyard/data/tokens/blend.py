"""How much of each source a model reads: weights with a temperature and a cap on epochs.

A source's natural share is that of its tokens; at temperature T it is the share to the power 1/T, as multilingual models are sampled (Conneau and
Lample 2019, section 3.1), times the weight that the config gives it. What a capped source cannot give (repeating text over about four times teaches
little: Muennighoff et al. 2023) is shared out among the others.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelyard.config import Config
from modelyard.data.tokens.packing import Planned, Share


class BlendConfig(Config):
    """The mixture."""

    tokens: int = Field(gt=0)
    """Tokens that the model will read."""
    temperature: float = Field(gt=0)
    """1: shares as the sources are; larger: more even."""
    sources: dict[str, Share]
    """Source -> weight and epochs cap; a source that is not named gives nothing."""


def blend(available: Mapping[str, int], config: BlendConfig) -> dict[str, Planned]:
    """Tokens and epochs of each source.

    Args:
        available: source -> training tokens.
        config: the mixture.
    """
    natural = {name: available[name] ** (1 / config.temperature) for name in config.sources if available.get(name, 0) > 0}
    weights = {name: config.sources[name].weight * size for name, size in natural.items() if config.sources[name].weight > 0}
    planned: dict[str, Planned] = {}
    left = float(config.tokens)
    while weights:
        total = sum(weights.values())
        capped = [name for name in weights if left * weights[name] / total > available[name] * config.sources[name].max_epochs]
        if not capped:
            planned |= {name: _planned(left * weight / total, available[name]) for name, weight in weights.items()}
            break
        for name in capped:
            planned[name] = _planned(available[name] * config.sources[name].max_epochs, available[name])
            del weights[name]
        left = config.tokens - sum(entry.tokens for entry in planned.values())
    return dict(sorted(planned.items()))


def _planned(tokens: float, available: int) -> Planned:
    return Planned(round(tokens), tokens / available)
