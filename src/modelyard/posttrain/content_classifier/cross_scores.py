"""Labels of harm that models doubt which did not learn from them, for people to look at again.

Markov et al. (2022, arXiv:2208.03274) train on each half of the training labels and score the other; here the halves are drawn several times,
near duplicates in one, and the probabilities are averaged. Beside it confident learning (Northcutt et al. 2021, arXiv:1911.00068, section 3.1)
with the same probabilities: a label is doubted where the other class is as probable as it is on average of the texts that bear it. Left out:
changing labels; fitting the noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.formats.harm_reviews import Review
from modelyard.formats.harms import ANY, HarmText
from modelyard.posttrain.content_classifier import measure, train, words
from modelyard.posttrain.content_classifier.classifier import Reals, calibrate
from modelyard.posttrain.content_classifier.features import Features
from modelyard.posttrain.content_classifier.heads import Labels
from modelyard.posttrain.content_classifier.measure import Scored
from modelyard.posttrain.content_classifier.train import ContentClassifierConfig
from modelyard.progress import silent

HALVES = 5
"""Times that the halves are drawn."""
Rows = npt.NDArray[np.int64]
Judge = Callable[[Rows, Rows], Scored]
"""(texts to learn from, texts to score) -> their probabilities and thresholds."""


class Labelled(NamedTuple):
    """Texts with labels, and what a decoder makes of them."""

    texts: Sequence[HarmText]
    labels: Labels
    """[texts, C] of ``any`` and the categories."""
    names: tuple[str, ...]
    """``any`` and the categories."""
    features: Features | None
    """None: words alone judge."""

    @classmethod
    def of(cls, texts: Sequence[HarmText], features: Features | None = None) -> Labelled:
        """From records."""
        names = (ANY, *dict.fromkeys(name for one in texts for name in one.labels))
        return cls(texts, measure.columns(texts, names), names, features)


def judged(known: Labelled, kept: Rows, asked: Sequence[str], asked_features: Features | None, config: ContentClassifierConfig) -> Scored:
    """Probabilities of texts by a classifier of the rows ``kept`` alone, as the stage trains it: with heads where there are features."""
    texts, labels = [known.texts[n] for n in kept], known.labels[kept]
    if known.features is not None and asked_features is not None:
        made = train.fit(texts, known.features.some(kept), labels, known.names, config, silent).classifier
        return Scored(known.names, made.probabilities(asked_features, asked), made.calibrated.thresholds)
    spoken, folds = [one.text for one in texts], train.folds_of([one.group for one in texts], config.folds)
    odds = np.zeros(labels.shape)
    for fold in np.unique(folds) if len(set(folds.tolist())) > 1 else ():
        learned, left = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        odds[left] = words.fit([spoken[n] for n in learned], labels[learned]).logits([spoken[n] for n in left])
    calibrated = calibrate([odds], labels, config.beta, config.floor)
    return Scored(known.names, calibrated.probabilities([words.fit(spoken, labels).logits(asked)]), calibrated.thresholds)


def cross_scored(known: Labelled, config: ContentClassifierConfig, halves: int = HALVES) -> Reals:
    """[texts, C] probabilities by models that saw neither the text nor a near duplicate of it: the mean over draws of the halves."""
    total = np.zeros(known.labels.shape)
    for number in range(halves):
        sides = np.array([half(one.group, number) for one in known.texts])
        for side in (0, 1):
            kept, left = np.flatnonzero(sides != side), np.flatnonzero(sides == side)
            if len(kept) and len(left):
                features = known.features.some(left) if known.features is not None else None
                total[left] += judged(known, kept, [known.texts[int(n)].text for n in left], features, config).probabilities
    return total / halves


def half(group: str, number: int) -> int:
    """The half that a group of near duplicates is in, at the ``number``-th draw."""
    return hashlib.sha256(f"{number}/{group}".encode()).digest()[0] % 2


def confident(labels: npt.NDArray[np.int8], probabilities: Reals) -> npt.NDArray[np.bool_]:
    """[texts] labels that confident learning doubts, of one category whose labels [texts] are all 0 or 1; ``probabilities`` of 1.

    A class's threshold is its mean probability over the texts that bear it; a text whose other class reaches that class's threshold is
    counted there, and doubted where that class is also the likelier one.
    """
    yes, doubted = labels == 1, np.zeros(len(labels), bool)
    if yes.all() or not yes.any():
        return doubted
    least_yes, least_no = probabilities[yes].mean(), (1 - probabilities[~yes]).mean()
    doubted[~yes] = (probabilities[~yes] >= least_yes) & (probabilities[~yes] > 0.5)
    doubted[yes] = (1 - probabilities[yes] >= least_no) & (probabilities[yes] < 0.5)
    return doubted


def suspects(known: Labelled, probabilities: Reals, most: int) -> list[Review]:
    """Labels of categories that are less likely than not, the most doubtful first, at most ``most``."""
    found = []
    for column, name in enumerate(known.names[1:], 1):
        rows = np.flatnonzero(known.labels[:, column] >= 0)
        given, p = known.labels[rows, column], probabilities[rows, column]
        doubt, surely = np.where(given == 1, 1 - p, p), confident(given, p)
        for place in np.flatnonzero(doubt > 0.5):
            text = known.texts[int(rows[place])]
            label: Literal[0, 1] = 1 if given[place] == 1 else 0
            found.append(Review(id=text.id, text=text.text, category=name, label=label,
                                doubt=round(float(doubt[place]), 4), confident=bool(surely[place])))  # fmt: skip
    return sorted(found, key=lambda one: (-one.doubt, one.id, one.category))[:most]
