"""Real human preferences: comparisons of rated texts, labelled by single raters' raw votes.

Each text was rated by about ten to twenty people on -4..4 (Hutto and Gilbert, ICWSM 2014). A comparison draws one rater's vote for each
of its texts and ranks the texts by them, ties dropped, so that the labels carry the annotators' real disagreement as InstructGPT's do
(section 3.4 and appendix C.2: K ranked completions, all pairs of them). Two models that must not share raters read votes at even and at
odd positions. The ceiling is how often an independent rater's label agrees with the drawn one (InstructGPT: about 73%). Left out:
weighting by how much the votes differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from modelyard.estimate import Estimate, bootstrap_mean, proportion

Raters = Literal["even", "odd"]


class RatedText(NamedTuple):
    """A text and the votes of the raters in use."""

    id: str
    text: str
    votes: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean vote."""
        return sum(self.votes) / len(self.votes)


class Comparison(NamedTuple):
    """K texts and the vote drawn for each: ``items`` index the rated texts, ``raters`` their votes."""

    items: tuple[int, ...]
    raters: tuple[int, ...]


def read_ratings(path: Path, split: str, domains: Sequence[str], raters: Raters) -> list[RatedText]:
    """The texts of one split and the given domains with the votes at even or odd positions; texts with fewer than two are dropped.

    Raises:
        ValueError: nothing is left.
    """
    table = pq.read_table(path, columns=["id", "domain", "split", "text", "votes"]).to_pylist()
    start = {"even": 0, "odd": 1}[raters]
    chosen = [row for row in table if row["split"] == split and row["domain"] in domains]
    rated = [RatedText(row["id"], row["text"], tuple(int(v) for v in row["votes"][start::2])) for row in chosen]
    rated = [item for item in rated if len(item.votes) >= 2]
    if len(rated) < 2:
        raise ValueError(f"{path.name}: split {split!r} has no two rated texts of domains {', '.join(domains)}")
    return rated


def vote(rated: Sequence[RatedText], comparison: Comparison, position: int) -> int:
    """The vote drawn for the text at ``position`` of the comparison."""
    return rated[comparison.items[position]].votes[comparison.raters[position]]


def draw_comparisons(rated: Sequence[RatedText], completions: int, generator: np.random.Generator) -> list[Comparison]:
    """One pass over the texts in random order, ``completions`` (K) at a time, a random vote for each; where all votes tie none is made."""
    order = generator.permutation(len(rated))
    drawn = []
    for start in range(0, len(order) - completions + 1, completions):
        items = tuple(int(i) for i in order[start : start + completions])
        comparison = Comparison(items, tuple(int(generator.integers(len(rated[i].votes))) for i in items))
        if len({vote(rated, comparison, k) for k in range(completions)}) > 1:
            drawn.append(comparison)
    return drawn


def draw_pairs(rated: Sequence[RatedText], passes: int, seed: int) -> list[Comparison]:
    """Pairs to test on: ``passes`` passes over the texts, each text in at most one pair of a pass."""
    generator = np.random.default_rng(seed)
    return [pair for _ in range(passes) for pair in draw_comparisons(rated, 2, generator)]


def first_preferred(rated: Sequence[RatedText], pair: Comparison) -> bool:
    """Whether the drawn votes prefer the pair's first text."""
    return vote(rated, pair, 0) > vote(rated, pair, 1)


def margin(rated: Sequence[RatedText], pair: Comparison) -> float:
    """How far apart the mean votes of the pair's texts are."""
    return abs(rated[pair.items[0]].mean - rated[pair.items[1]].mean)


def agreement(rated: Sequence[RatedText], pair: Comparison) -> float | None:
    """Probability that two votes drawn afresh, for each text from its other raters, label the pair as the drawn ones do.

    Ties among the fresh votes are dropped like ties in the labels; None where nothing but ties is left.
    """
    first, second = (np.array([v for i, v in enumerate(rated[item].votes) if i != rater]) for item, rater in zip(*pair, strict=True))
    difference = first[:, None] - second[None, :]
    above, below = int((difference > 0).sum()), int((difference < 0).sum())
    if above + below == 0:
        return None
    return (above if first_preferred(rated, pair) else below) / (above + below)


def human_ceiling(rated: Sequence[RatedText], pairs: Sequence[Comparison], seed: int) -> Estimate:
    """How often an independent rater's label agrees with the drawn label, over the test pairs; the interval is a bootstrap over pairs."""
    return bootstrap_mean([p for p in (agreement(rated, pair) for pair in pairs) if p is not None], seed)


def pair_correct(rated: Sequence[RatedText], pairs: Sequence[Comparison], scores: Sequence[float]) -> list[float]:
    """For each pair 1 if ``scores`` (one per rated text) order it as its label does, 0 if not, 0.5 for equal scores."""
    correct = []
    for pair in pairs:
        first, second = (scores[item] for item in pair.items)
        correct.append(0.5 if first == second else float((first > second) == first_preferred(rated, pair)))
    return correct


def accuracy_by_margin(
    rated: Sequence[RatedText], pairs: Sequence[Comparison], correct: Sequence[float], edges: Sequence[float]
) -> dict[str, Estimate]:
    """Accuracy of the pairs whose :func:`margin` lies in each [low, high) of ``edges``, the last open, by name; no empty bins."""
    bins: dict[str, Estimate] = {}
    margins = [margin(rated, pair) for pair in pairs]
    for low, high in zip(edges, [*edges[1:], float("inf")], strict=True):
        inside = [c for c, m in zip(correct, margins, strict=True) if low <= m < high]
        if inside:
            bins[f"{low:g}-{high:g}"] = proportion(sum(inside), len(inside))
    return bins
