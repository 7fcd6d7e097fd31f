"""Comparisons drawn from single raters' raw votes on texts: real human preferences with the raters' real disagreement.

Each text was rated by about ten to twenty people on -4..4 (Hutto and Gilbert, ICWSM 2014). A comparison draws one rater's vote for each of its
texts and ranks the texts by them, as InstructGPT's labelers ranked K completions (section 3.4 and appendix C.2); votes that all tie compare
nothing and are dropped. Texts are rated by themselves, so the prompt is empty. Two models that must not share raters read votes at even and at odd
positions. How often an independent rater's label agrees with the drawn one is the ceiling of every model (InstructGPT: about 73%). Left out:
weighting by how much the votes differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus.document import DataError
from modelyard.formats.feedback import MOST_COMPLETIONS, Comparison

Raters = Literal["even", "odd"]


class Drawn(Config):
    """What one model's comparisons are drawn from."""

    raters: Raters
    """Positions of the votes it may see."""
    passes: int = Field(ge=1)
    """Passes over the texts, each with votes drawn anew."""


class VotesConfig(Config):
    """How votes become comparisons."""

    domains: tuple[str, ...]
    """Rated domains trained on."""
    test_domains: tuple[str, ...]
    """Rated domains that models are measured on."""
    completions: int = Field(ge=2, le=MOST_COMPLETIONS)
    """Texts of a training comparison, K (InstructGPT: 4 to 9); tests are pairs."""
    reward: Drawn
    """For the reward model."""
    gold: Drawn
    """For the judge of policies."""

    @model_validator(mode="after")
    def _apart(self) -> VotesConfig:
        if self.reward.raters == self.gold.raters:
            raise ValueError(f"gold.raters: must differ from reward.raters ({self.reward.raters}): the judge must not share its raters")
        return self


class RatedText(NamedTuple):
    """A text and the votes of the raters in use."""

    id: str
    domain: str
    text: str
    votes: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean vote."""
        return sum(self.votes) / len(self.votes)


class Draw(NamedTuple):
    """K texts and the vote drawn for each: ``items`` index the rated texts, ``raters`` their votes."""

    items: tuple[int, ...]
    raters: tuple[int, ...]


class Votes(NamedTuple):
    """Comparisons and how many draws tied throughout."""

    comparisons: list[Comparison]
    ties: int


def comparisons(path: Path, config: VotesConfig, seed: int) -> Votes:
    """Training comparisons of both models and test pairs labelled by either group of raters, from ``ratings.parquet``."""
    found: list[Comparison] = []
    ties = 0
    sides: tuple[tuple[Literal["reward", "gold"], Drawn], ...] = (("reward", config.reward), ("gold", config.gold))
    for split, drawn in sides:
        rated = read_ratings(path, split, config.domains, drawn.raters)
        for number in range(drawn.passes):
            draws = list(draw(rated, config.completions, np.random.default_rng([seed, split == "gold", number])))
            kept = [one for one in draws if not _tied(rated, one)]
            ties += len(draws) - len(kept)
            names = [f"votes-{split}-{number}-{place}" for place in range(len(kept))]
            found += [_comparison(name, split, drawn.raters, rated, one) for name, one in zip(names, kept, strict=True)]
    for raters in (config.reward.raters, config.gold.raters):
        rated = read_ratings(path, "test", config.test_domains, raters)
        draws = list(draw(rated, 2, np.random.default_rng([seed, 2, raters == "odd"])))
        kept = [one for one in draws if not _tied(rated, one)]
        ties += len(draws) - len(kept)
        found += [_comparison(f"votes-test-{raters}-{place}", "test", raters, rated, one) for place, one in enumerate(kept)]
    return Votes(found, ties)


def read_ratings(path: Path, split: str, domains: Sequence[str], raters: Raters) -> list[RatedText]:
    """The texts of one split and the given domains with the votes at even or odd positions; texts with fewer than two are dropped.

    Raises:
        DataError: nothing is left.
    """
    table = pq.read_table(path, columns=["id", "domain", "split", "text", "votes"]).to_pylist()
    start = {"even": 0, "odd": 1}[raters]
    chosen = [row for row in table if row["split"] == split and row["domain"] in domains]
    rated = [RatedText(row["id"], row["domain"], row["text"], tuple(int(v) for v in row["votes"][start::2])) for row in chosen]
    rated = [item for item in rated if len(item.votes) >= 2]
    if len(rated) < 2:
        raise DataError(f"{path.name}: split {split!r} has no two rated texts of domains {', '.join(domains)}")
    return rated


def draw(rated: Sequence[RatedText], completions: int, generator: np.random.Generator) -> Iterator[Draw]:
    """One pass over the texts in random order, ``completions`` (K) at a time, a random vote for each."""
    order = generator.permutation(len(rated))
    for start in range(0, len(order) - completions + 1, completions):
        items = tuple(int(i) for i in order[start : start + completions])
        yield Draw(items, tuple(int(generator.integers(len(rated[i].votes))) for i in items))


def drawn_votes(rated: Sequence[RatedText], drawn: Draw) -> tuple[int, ...]:
    """The vote drawn for each text."""
    return tuple(rated[item].votes[rater] for item, rater in zip(*drawn, strict=True))


def agreement(rated: Sequence[RatedText], pair: Draw) -> float | None:
    """Probability that two votes drawn afresh, for each text from its other raters, label the pair as the drawn ones do.

    Ties among the fresh votes are dropped like ties in the labels; None where nothing but ties is left.
    """
    first, second = (np.array([v for i, v in enumerate(rated[item].votes) if i != rater]) for item, rater in zip(*pair, strict=True))
    difference = first[:, None] - second[None, :]
    above, below = int((difference > 0).sum()), int((difference < 0).sum())
    if above + below == 0:
        return None
    one, other = drawn_votes(rated, pair)
    return (above if one > other else below) / (above + below)


def _tied(rated: Sequence[RatedText], drawn: Draw) -> bool:
    return len(set(drawn_votes(rated, drawn))) == 1


def _comparison(name: str, split: Literal["reward", "gold", "test"], raters: Raters, rated: Sequence[RatedText], drawn: Draw) -> Comparison:
    texts = [rated[item] for item in drawn.items]
    votes = drawn_votes(rated, drawn)
    order = sorted(set(votes), reverse=True)
    return Comparison(
        id=name,
        split=split,
        source="human_ratings",
        category=texts[0].domain if len({text.domain for text in texts}) == 1 else "",
        rater=raters,
        prompt="",
        completions=tuple(text.text for text in texts),
        ranks=tuple(order.index(vote) + 1 for vote in votes),
        scores=tuple(text.mean for text in texts),
        agreement=agreement(rated, drawn) if len(texts) == 2 else None,
    )
