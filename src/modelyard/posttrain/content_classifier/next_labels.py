"""Which texts of a pool to label next: some at random, some that the classifier would block, some that it is unsure of.

The three shares are those of Markov et al. (2022, arXiv:2208.03274) on production's texts: random ones so that what the classifier never finds
is seen too, ones above the threshold because harm is rare, uncertain ones (probability nearest to a half; Lewis and Gale 1994) because they tell
most. Left out: choosing texts that differ from each other; near duplicates are the caller's to drop.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.posttrain.content_classifier.classifier import Reals

Reason = Literal["random", "above", "uncertain"]


class Shares(Config):
    """Of what is labelled next; the rest after ``random`` and ``above`` is uncertain."""

    random: float = Field(default=0.3, ge=0, le=1)
    """Drawn from the whole pool."""
    above: float = Field(default=0.3, ge=0, le=1)
    """Drawn from the texts at or above the threshold."""

    @model_validator(mode="after")
    def _fit(self) -> Shares:
        if self.random + self.above > 1 + 1e-9:
            raise ValueError(f"random and above are {self.random + self.above:g} together, more than 1")
        return self


class Chosen(NamedTuple):
    """A text of the pool."""

    place: int
    reason: Reason


def choose(probabilities: Reals, threshold: float, number: int, shares: Shares, seed: int) -> list[Chosen]:
    """At most ``number`` different texts of a pool with ``probabilities`` [texts]; where too few are above the threshold, more are uncertain."""
    generator = np.random.default_rng(seed)
    number = min(number, len(probabilities))
    order = generator.permutation(len(probabilities)).tolist()
    at_random = order[: round(shares.random * number)]
    left = order[len(at_random) :]
    above = [place for place in left if probabilities[place] >= threshold][: min(round(shares.above * number), number - len(at_random))]
    taken = {*at_random, *above}
    unsure = sorted((place for place in left if place not in taken), key=lambda place: abs(float(probabilities[place]) - 0.5))
    return [
        *(Chosen(place, "random") for place in at_random),
        *(Chosen(place, "above") for place in above),
        *(Chosen(place, "uncertain") for place in unsure[: number - len(taken)]),
    ]
