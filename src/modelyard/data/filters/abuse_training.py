"""Learning the eight categories of harm from labels: L2 logistic regressions over words, pairs of words and the packaged model's margin.

Each category has its own regression over the same features: TF-IDF with the packaged model's document frequencies, and its margin as one
feature more, which stands for the 200,000 comments it was trained on. The margin is linear in the words, so it is folded into their
weights and costs nothing at scoring. Texts are trained on whole, for nobody says which window of them is the harmful one. Written contrasts
(:mod:`abuse_contrasts`) are added with a small weight.
Measured on the half of the near-duplicate groups that a first model was not trained on; the model that is kept is trained on both halves.
"""

from __future__ import annotations

import math
from string import ascii_lowercase, digits
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.data.filters.abuse_contrasts import contrasts
from modelyard.data.filters.abuse_labels import CATEGORIES, UNKNOWN, Labelled, first_half
from modelyard.data.filters.abuse_teacher import Teacher
from modelyard.formats.abuse import BITS, AbuseModel, Buckets, Reals, codes, pairs, singles
from modelyard.stats.estimate import Estimate
from modelyard.stats.ranking import average_precision_interval

STRENGTH = 30.0
"""Inverse of the L2 penalty."""
FOLDS = 3
"""Of the cross-fitting that calibrates."""
CONTRASTS = (0.1, 0.5)
"""Weight of a harmful and of a harmless written contrast beside a labelled text's 1: they decide where the labels say nothing."""


class Measured(NamedTuple):
    """How well labels are reproduced on texts whose near duplicates were not trained on."""

    average_precision: dict[str, Estimate]
    """Of ``any`` and of each category that has a text with 1 among them."""
    held: Labelled
    """The texts."""
    model: AbuseModel
    """What was measured: trained on the other half."""


class _Known(NamedTuple):
    """What is known of each bucket's word."""

    idf: Reals
    """[2^BITS] inverse document frequency; the largest where nothing is known."""
    margin: Reals
    """[2^BITS] weight of the packaged model times ``idf``."""
    rows: Buckets
    """Buckets that differ from an unknown word's."""


class _Line(NamedTuple):
    """Log-odds as a linear function."""

    weights: Reals
    bias: float


class _Features(NamedTuple):
    """One text as a row."""

    buckets: Buckets
    """Of its words, then of its pairs."""
    scales: Reals
    """idf of each word; of a pair, the geometric mean of its words'."""
    norm: float
    margin: float
    """The packaged model's, over the same norm."""


def fit(labelled: Labelled, teacher: Teacher, allowed: frozenset[str], origin: str) -> AbuseModel:
    """Train on all of ``labelled``. ``allowed``: words of which the packaged model's opinion is not taken."""
    from scipy.sparse import csr_matrix, hstack

    known = _known(teacher, allowed)
    written = contrasts()
    rows = [_features(codes(text), known) for text in (*labelled.texts, *written.texts)]
    labels = np.concatenate([labelled.labels, written.labels])
    importance = np.concatenate([np.ones(len(labelled.texts)), np.where(written.harmful, *CONTRASTS)])
    every, scales = np.concatenate([row.buckets for row in rows]), np.concatenate([row.scales for row in rows])
    used, place = np.unique(every, return_inverse=True)
    values = scales / np.repeat([row.norm for row in rows], [row.buckets.size for row in rows])
    pointers = np.concatenate([[0], np.cumsum([row.buckets.size for row in rows])])
    words = csr_matrix((values, place, pointers), shape=(len(rows), used.size))
    words.sum_duplicates()
    scale = np.zeros(used.size)
    scale[place] = scales
    inputs = hstack([words, csr_matrix(np.array([row.margin for row in rows])[:, None])], format="csr")

    buckets = np.union1d(used, known.rows)
    weights, bias = np.zeros((buckets.size + 1, len(CATEGORIES))), np.zeros(len(CATEGORIES))
    for number in range(len(CATEGORIES)):
        looked = labels[:, number] != UNKNOWN
        line = _regression(inputs[looked], labels[looked, number], importance[looked])
        weights[np.searchsorted(buckets, used) + 1, number] = line.weights[:-1] * scale
        weights[1:, number] += line.weights[-1] * known.margin[buckets]
        bias[number] = line.bias
    squares = np.concatenate([[known.idf.max()], known.idf[buckets]]) ** 2
    return AbuseModel(
        words=frozenset(),
        outputs=tuple(CATEGORIES.values()),
        buckets=np.concatenate([[-1], buckets]),
        weights=weights.astype(np.float32),
        squares=squares.astype(np.float32),
        bias=bias.astype(np.float32),
        origin=origin,
    )


def _regression(inputs: Any, labels: npt.NDArray[np.int8], importance: Reals) -> _Line:
    """Logistic regression whose log-odds Platt's sigmoid corrects by what it says of texts that it was not fitted to."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    model = LogisticRegression(C=STRENGTH, solver="liblinear", random_state=0, max_iter=200)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    fitted = CalibratedClassifierCV(model, cv=folds, ensemble=False).fit(inputs, labels, importance).calibrated_classifiers_[0]
    slope, offset = -float(fitted.calibrators[0].a_), -float(fitted.calibrators[0].b_)
    return _Line(slope * fitted.estimator.coef_[0], slope * float(fitted.estimator.intercept_[0]) + offset)


def measure(labelled: Labelled, teacher: Teacher, allowed: frozenset[str], seed: int = 0) -> Measured:
    """Train on half of the groups of near duplicates and measure on the other half."""
    half = first_half(labelled.texts)
    model, held = fit(labelled.some(half), teacher, allowed, "half of the labels"), labelled.some(~half)
    judged = [model.judge(text) for text in held.texts]
    overall, each = np.array([one.any for one in judged]), np.array([list(one.outputs.values()) for one in judged])
    found = {"any": average_precision_interval(overall, held.harmful, seed)}
    for number, name in enumerate(CATEGORIES.values()):
        looked = held.labels[:, number] != UNKNOWN
        if (held.labels[looked, number] == 1).any():
            found[name] = average_precision_interval(each[looked, number], held.labels[looked, number] == 1, seed)
    return Measured(found, held, model)


def _known(teacher: Teacher, allowed: frozenset[str]) -> _Known:
    idf = np.full(1 << BITS, teacher.idf.max())
    margin = np.zeros(1 << BITS)
    common = singles(codes(" ".join([*sorted(teacher.stop), *ascii_lowercase, *digits])))
    words = singles(codes(" ".join(teacher.words)))
    idf[common] = teacher.idf.min()
    idf[words] = teacher.idf
    margin[words] = teacher.idf * teacher.weights * [word not in allowed for word in teacher.words]
    return _Known(idf, margin, np.union1d(common, words))


def _features(found: npt.NDArray[np.uint64], known: _Known) -> _Features:
    buckets = singles(found)
    idf = known.idf[buckets]
    norm = math.sqrt(max(float((idf**2).sum()), 1e-9))
    scales = np.concatenate([idf, np.sqrt(idf[:-1] * idf[1:])])
    return _Features(np.concatenate([buckets, pairs(found)]), scales, norm, float(known.margin[buckets].sum()) / norm)
