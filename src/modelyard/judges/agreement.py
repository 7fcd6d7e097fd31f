"""How far a judge agrees with people: accuracy, Cohen's kappa (1960) and the confusion of classes on a rubric's labelled responses.

A rule-based reward is worth what its judge is; the GPT-4 report does not publish the agreement of its classifiers, so here it is measured each
time and stored with the rubric. Responses to one prompt are drawn together by the bootstrap, since they are judged alike. Left out: agreement
among several people, for which the examples hold one label each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelyard.config import Config
from modelyard.judges.judge import Judge, Response, likeliest
from modelyard.judges.rubric import Labelled, Rubric
from modelyard.stats.estimate import proportion
from modelyard.stats.kappa import bootstrapped_kappa, confusion


class Agreement(Config):
    """A judge beside the labels of one rubric."""

    rubric: str
    """Id of the rubric."""
    judge: str
    """Identity of the judge."""
    n: int
    """Labelled responses."""
    accuracy: float
    """Share of responses whose likeliest class is the label; where several tie it is none of them."""
    accuracy_low: float
    """95% Wilson interval, lower end."""
    accuracy_high: float
    """Upper end."""
    kappa: float
    """Cohen's kappa: 0 is what chance gives, 1 is always agreeing."""
    kappa_low: float
    """95% bootstrap interval over prompts, lower end."""
    kappa_high: float
    """Upper end."""
    label_probability: float
    """Mean probability that the judge gives the label."""
    confusion: tuple[tuple[int, ...], ...]
    """[label][likeliest class], in the order of the options; behind them, where the judge was undecided of any, how many of those."""
    replies: int = 0
    """Replies that were generated to ask about them, one an order; 0: asked by likelihood."""
    no_letter: int = 0
    """Of the replies, those that named no option's letter."""


def measure(judge: Judge, rubric: Rubric, seed: int) -> Agreement:
    """The judge on the rubric's examples that it is not shown. Raises ValueError for a rubric without any."""
    labelled = rubric.labelled(judge.asking.shots)
    if not labelled:
        raise ValueError(
            f"rubric {rubric.name}: no labelled examples that the judge is not shown, so the judge's agreement cannot be measured"
        )
    replies, no_letter = judge.replies, judge.no_letter
    said = judge.classify(rubric, [Response(one.prompt, one.response) for one in labelled])
    update = {"replies": judge.replies - replies, "no_letter": judge.no_letter - no_letter}
    return compare(rubric, judge.identity, labelled, said, seed).model_copy(update=update)


def compare(rubric: Rubric, judge: str, labelled: Sequence[Labelled], probabilities: Sequence[Sequence[float]], seed: int) -> Agreement:
    """Agreement of given probabilities [responses][options] with the labels."""
    labels = np.array([one.label for one in labelled])
    said = np.array([places[0] if len(places := likeliest(line)) == 1 else len(rubric.options) for line in probabilities])
    given = [line[one.label] for line, one in zip(probabilities, labelled, strict=True)]
    return agreement(rubric.id, judge, labels, said, given, [one.prompt for one in labelled], len(rubric.options), seed)


def agreement(
    question: str,
    judge: str,
    labels: NDArray[np.int64],
    said: NDArray[np.int64],
    probabilities: Sequence[float],
    prompts: Sequence[str],
    options: int,
    seed: int,
) -> Agreement:
    """Agreement of the classes ``said`` [n] with ``labels`` [n], which the judge gave these probabilities, on these prompts.

    A judge that cannot decide agrees with nobody: ``said`` is then ``options``, a class of its own that no label has. ``question``: id of the
    rubric, or of what was asked.
    """
    classes = options + int((said == options).any())
    accuracy = proportion(float((said == labels).sum()), len(labels))
    kappa = bootstrapped_kappa(labels, said, prompts, classes, seed)
    return Agreement(
        rubric=question,
        judge=judge,
        n=len(labels),
        accuracy=accuracy.value,
        accuracy_low=accuracy.low,
        accuracy_high=accuracy.high,
        kappa=kappa.value,
        kappa_low=kappa.low,
        kappa_high=kappa.high,
        label_probability=float(np.mean(probabilities)),
        confusion=tuple(tuple(int(n) for n in line) for line in confusion(labels, said, classes)[:options]),
    )
