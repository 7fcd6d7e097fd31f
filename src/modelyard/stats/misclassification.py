"""A share as a judge with errors sees it, and what the true share can be.

A judge is held against replies that people have labelled: of ``positives`` it finds some (sensitivity), of ``negatives`` it takes some
for positives (false alarms). The share that it sees is then corrected (Rogan and Gladen 1978) with an interval that holds the doubt in
the share, in the sensitivity and in the false alarms (Lang and Reiczigel 2014, Preventive Veterinary Medicine 113, section 2.3). It
assumes that the judge errs on the labelled replies as it does on those that are measured. Left out: errors that differ between two
models, which no labels of one alone can show.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.stats.estimate import Z95, Estimate, proportion


class JudgeError(Config):
    """A judge beside labelled replies, as counts."""

    hits: int = Field(ge=0)
    """Positives that it finds."""
    positives: int = Field(ge=1)
    """Replies that people call positive."""
    false_alarms: int = Field(ge=0)
    """Negatives that it calls positive."""
    negatives: int = Field(ge=1)
    """Replies that people call negative."""

    @model_validator(mode="after")
    def _possible(self) -> JudgeError:
        if self.hits > self.positives or self.false_alarms > self.negatives:
            raise ValueError("a judge cannot find more replies than there are")
        return self

    def __str__(self) -> str:
        return f"finds {self.hits} of {self.positives} labelled, false alarms {self.false_alarms} of {self.negatives}"


def youden(error: JudgeError) -> Estimate:
    """Sensitivity less false alarms (Youden 1950): 1 for a judge without error, 0 for chance.

    The interval is that of a difference of two shares (Newcombe 1998, method 10); ``n`` is the smaller number of labels.
    """
    found, alarmed = proportion(error.hits, error.positives), proportion(error.false_alarms, error.negatives)
    value = found.value - alarmed.value
    low = value - math.hypot(found.value - found.low, alarmed.high - alarmed.value)
    high = value + math.hypot(found.high - found.value, alarmed.value - alarmed.low)
    return Estimate(value, low, min(1.0, high), min(error.positives, error.negatives))


def corrected(seen: Estimate, error: JudgeError) -> Estimate | None:
    """The true share behind the one ``seen`` among ``seen.n`` items, in [0, 1]; None where the judge is not shown to be better than chance."""
    if youden(error).low <= 0:
        return None
    miss, alarm = 1 - error.hits / error.positives, error.false_alarms / error.negatives
    value = min(1.0, max(0.0, (seen.value - alarm) / (1 - miss - alarm)))
    share = _moved(seen.value, seen.n, Z95**2)
    found = _moved(error.hits / error.positives, error.positives, 2)
    alarmed = _moved(error.false_alarms / error.negatives, error.negatives, 2)
    sharpness = found.value - alarmed.value
    true = (share.value - alarmed.value) / sharpness
    spread = math.sqrt(share.variance + true**2 * found.variance + (1 - true) ** 2 * alarmed.variance) / sharpness
    centre = true + 2 * Z95**2 * (true * found.variance - (1 - true) * alarmed.variance)
    low, high = (min(1.0, max(0.0, centre + side * Z95 * spread)) for side in (-1, 1))
    return Estimate(value, min(low, value), max(high, value), seen.n, spread)


def largest_rise(seen: float, error: JudgeError) -> float | None:
    """The most that a share can have risen that the judge sees rise by ``seen``, for all that is known of the judge; None as of
    :func:`corrected`.

    Of a true change it sees the part :func:`youden`; sampling of the items is not in it.
    """
    sharpness = youden(error)
    return seen / (sharpness.low if seen > 0 else sharpness.high) if sharpness.low > 0 else None


class _Share(NamedTuple):
    value: float
    variance: float
    """Of the mean."""


def _moved(share: float, n: int, plus: float) -> _Share:
    """A share of ``n`` moved towards a half by ``plus`` more, half of them positive."""
    value = (share * n + plus / 2) / (n + plus)
    return _Share(value, value * (1 - value) / (n + plus))
