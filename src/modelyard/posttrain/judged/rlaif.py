"""RLAIF: a judge's preferences as comparisons that a reward model is trained on (Lee et al., arXiv:2309.00267; Bai et al., arXiv:2212.08073).

For every pair of completions of a prompt the judge says which is better, in both positions (:mod:`modelyard.judges.pairwise`).
K completions are ranked by their mean probability of winning; nearly equal ones tie. The records are those that people's
rankings make, with the judge as the rater, so that the reward stage cannot tell them apart and they can be mixed. How far the
judge agrees with people is measured first: too little is too little to label by. Rewards straight from a judge's grades are
:mod:`modelyard.posttrain.judged.rules`'. Left out: soft labels (the reward loss takes ranks) and chain of thought.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from pydantic import Field

from modelyard.formats.feedback import Comparison
from modelyard.judges.judge import Judge
from modelyard.judges.open_judge import JudgeConfig
from modelyard.judges.pairwise import prefer
from modelyard.posttrain.judged.candidates import Candidates, SampledConfig
from modelyard.stats.estimate import Estimate, proportion


class RLAIFConfig(SampledConfig):
    """A judge's preferences."""

    judge: JudgeConfig
    """Who judges; ``policy`` is the SFT model."""
    prompts: int = Field(ge=1)
    """Most training prompts that are answered."""
    tie: float = Field(ge=0, le=1)
    """Difference of mean winning probability under which two answers tie."""
    agreement_comparisons: int = Field(ge=1)
    """Most of people's test comparisons on which the judge's agreement is measured."""
    min_kappa: float = Field(ge=-1, le=1)
    """Least agreement with them (Cohen's kappa over pairs without ties); a judge below it, or without any to be measured on, labels nothing."""


class Labels(NamedTuple):
    """What a judge made of candidates."""

    comparisons: list[Comparison]
    """One for each prompt whose completions do not all tie."""
    tied: int
    """Prompts whose completions all tie."""
    contradicted: Estimate
    """Share of pairs on which the judge contradicts itself when positions are swapped."""


def label(judge: Judge, candidates: Sequence[Candidates], split: str, tie: float) -> Labels:
    """Comparisons of all candidates by the judge; completions whose mean probabilities of winning differ by less than ``tie`` are tied.

    Raises:
        ValueError: no candidates, or one with fewer than two completions.
    """
    if short := [one.id for one in candidates if len(one.completions) < 2]:
        raise ValueError(f"{short[0]}: fewer than two completions, so there is nothing to compare")
    places = [(i, a, b) for i, one in enumerate(candidates) for a, b in combinations(range(len(one.completions)), 2)]
    said = prefer(judge, [(candidates[i].prompt, candidates[i].completions[a], candidates[i].completions[b]) for i, a, b in places])
    wins = [[0.0] * len(one.completions) for one in candidates]
    for (i, a, b), preference in zip(places, said, strict=True):
        rivals = len(wins[i]) - 1
        wins[i][a] += preference.first / rivals
        wins[i][b] += (1 - preference.first) / rivals
    comparisons = [
        Comparison.model_validate(
            {
                "id": f"ai-{one.id}",
                "split": split,
                "source": "rlaif",
                "category": one.category,
                "rater": judge.identity,
                "ranked_by": "judge",
                "prompt": one.prompt,
                "completions": one.completions,
                "ranks": ranks,
                "scores": line,
            }
        )
        for one, line in zip(candidates, wins, strict=True)
        if len(set(ranks := ranked(line, tie))) > 1
    ]
    contradicted = proportion(sum(preference.contradicted for preference in said), len(said))
    return Labels(comparisons, len(candidates) - len(comparisons), contradicted)


def ranked(scores: Sequence[float], tie: float) -> tuple[int, ...]:
    """Ranks from 1 (best); from the best down, a score within ``tie`` of the first of its rank shares it."""
    ranks = [0] * len(scores)
    rank, leader = 0, float("inf")
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if leader - scores[i] >= tie or rank == 0:
            rank, leader = rank + 1, scores[i]
        ranks[i] = rank
    return tuple(ranks)
