"""Loss spikes: a step whose loss stands out is not taken.

As in OLMo-core's skip-step optimizers the batch of a spike is passed over and its gradient thrown away; the running median in place of their mean
and deviation is not moved by a spike. PaLM (section 5.1) restarts a hundred steps earlier and
skips batches around the spike by hand; a skip needs nobody and stays a function of seed and step. Several spikes in a row mean that the model has
diverged, and no later batch heals that: the run stops. Left out: spikes of the gradient norm, which clipping bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from pydantic import model_validator

from modelyard.config import Config
from modelyard.progress import StopError


class SpikeConfig(Config):
    """When a step's loss is a spike, and how many are borne."""

    factor: float
    """A loss above this multiple of the running median is a spike."""
    window: int
    """Taken steps in the median; before so many there are no spikes."""
    patience: int
    """Spikes in a row after which the run stops."""

    @model_validator(mode="after")
    def _ranges(self) -> SpikeConfig:
        if self.factor <= 1 or self.window < 1 or self.patience < 1:
            raise ValueError(
                f"factor must be above 1 and window and patience at least 1, got {self.factor}, {self.window} and {self.patience}"
            )
        return self


@dataclass
class Recent:
    """What the next loss is compared with; a checkpoint keeps it, so that a resumed run skips what an uninterrupted one skips."""

    losses: list[float] = field(default_factory=list)
    """Of the last taken steps, at most a window of them."""
    skipped: int = 0
    """Spikes in a row, up to now."""


def limit(config: SpikeConfig | None, recent: Recent) -> float:
    """Loss above which a step is not taken."""
    if config is None or len(recent.losses) < config.window:
        return float("inf")
    return config.factor * median(recent.losses)


def note(config: SpikeConfig | None, recent: Recent, step: int, loss: float) -> bool:
    """Add the loss of ``step`` to ``recent``; returns whether it was a spike. Raises StopError after too many in a row."""
    if config is None:
        return False
    bound = limit(config, recent)
    if loss <= bound:
        recent.losses, recent.skipped = [*recent.losses, loss][-config.window :], 0
        return False
    recent.skipped += 1
    if recent.skipped >= config.patience:
        raise StopError(
            f"loss {loss:.4g} at step {step} is the last of {recent.skipped} in a row above {config.factor:g} times the median of the "
            f"{config.window} steps before ({bound / config.factor:.4g}): the model has diverged; lower the learning rate"
        )
    return True
