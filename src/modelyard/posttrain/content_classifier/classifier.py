"""The content classifier as a value: features and words of a text to a probability for every category, and the thresholds that block.

The first column is ``any``, harm in any way, with a head of its own. Log-odds of the heads, and of the words where they count too, become
probabilities by a logistic regression (Platt's sigmoid) on what held-back folds of the training half said. A threshold is the one of largest
F-beta there. In a file (``classifier.npz``) it is plain arrays. Left out: thresholds by language or user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.complaint import complaint
from modelyard.formats.abuse import Judgement
from modelyard.formats.harms import ANY
from modelyard.posttrain.content_classifier import words
from modelyard.posttrain.content_classifier.features import Features, Reader
from modelyard.posttrain.content_classifier.heads import Heads, Labels
from modelyard.posttrain.content_classifier.words import Words

FILE = "classifier.npz"
Reals = npt.NDArray[np.float64]


class Calibrated(NamedTuple):
    """How log-odds become probabilities, and which of those block."""

    mix: Reals
    """[C, parts + 1] weight of each part's log-odds, and an offset."""
    thresholds: Reals
    """[C]"""

    def probabilities(self, parts: Sequence[Reals]) -> Reals:
        """[texts, C] from each part's log-odds [texts, C]."""
        odds = sum((part * weight for part, weight in zip(parts, self.mix.T[:-1], strict=True)), start=self.mix[:, -1])
        return np.asarray(1 / (1 + np.exp(-np.clip(odds, -500, 500))))


class Classifier(NamedTuple):
    """What is trained."""

    names: tuple[str, ...]
    """``any`` and the categories."""
    heads: Heads
    words: Words
    alone: bool
    """Whether the heads judge without the words."""
    calibrated: Calibrated

    def parts(self, features: Features, texts: Sequence[str]) -> list[Reals]:
        """Log-odds that are mixed, each [texts, C]."""
        return [self.heads.logits(features), *([] if self.alone else [self.words.logits(texts)])]

    def probabilities(self, features: Features, texts: Sequence[str]) -> Reals:
        """[texts, C]"""
        return self.calibrated.probabilities(self.parts(features, texts))

    def save(self, directory: Path) -> None:
        """Write ``classifier.npz`` and the vocabulary."""
        arrays = {**self.heads._asdict(), **self.calibrated._asdict(), **self.words.save(directory)}
        np.savez_compressed(directory / FILE, names=np.array(self.names, dtype=np.str_), alone=np.bool_(self.alone), **arrays)


def load(directory: Path) -> Classifier:
    """Read what :meth:`Classifier.save` wrote. Raises ValueError naming the file that is missing or damaged."""
    path = directory / FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it is no content classifier")
    try:
        with np.load(path, allow_pickle=False) as found:
            stored = dict(found)
        heads = Heads(*(stored[key].astype(np.float32) for key in Heads._fields))
        calibrated = Calibrated(*(stored[key] for key in Calibrated._fields))
        names = tuple(map(str, stored["names"]))
        if names[0] != ANY or not len(names) == len(heads.outer) == len(calibrated.thresholds) == len(stored["word_bias"]):
            raise ValueError("its arrays do not fit together")
    except Exception as error:  # numpy and zipfile raise a dozen types for damaged bytes
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {complaint(error)})") from None
    return Classifier(names, heads, words.load(directory, stored), bool(stored["alone"]), calibrated)


def calibrate(parts: Sequence[Reals], labels: Labels, beta: float, floor: float) -> Calibrated:
    """From log-odds of texts that they were not trained on; no threshold is below ``floor``, and a category whose known labels are all alike
    never blocks."""
    from sklearn.linear_model import LogisticRegression

    mix, thresholds = np.zeros((labels.shape[1], len(parts) + 1)), np.full(labels.shape[1], np.inf)
    for number, column in enumerate(labels.T):
        known = column >= 0
        inputs, truth = np.stack([part[known, number] for part in parts], 1), column[known] == 1
        if truth.all() or not truth.any():
            mix[number, 0] = 1.0
            continue
        fitted = LogisticRegression(C=1.0).fit(inputs, truth)
        mix[number] = [*fitted.coef_[0], fitted.intercept_[0]]
        thresholds[number] = max(floor, best_threshold(fitted.predict_proba(inputs)[:, 1], truth, beta))
    return Calibrated(mix, thresholds)


def best_threshold(probabilities: Reals, truth: npt.NDArray[np.bool_], beta: float) -> float:
    """The probability from which on F-beta is largest, halfway to the next lower one."""
    order = np.argsort(-probabilities, kind="stable")
    ranked, hits = probabilities[order], np.cumsum(truth[order])
    said = np.arange(1, len(ranked) + 1)
    score = (1 + beta**2) * hits / (said + beta**2 * truth.sum())
    score[:-1][ranked[:-1] == ranked[1:]] = -1.0  # ties are flagged together
    best = int(np.argmax(score))
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)


class ContentClassifier:
    """A classifier with the decoder that it reads texts by: what serves."""

    def __init__(self, classifier: Classifier, reader: Reader, decoder: str) -> None:
        """``decoder``: fingerprint of its weights."""
        self.classifier, self.reader, self._decoder = classifier, reader, decoder

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Category, and ``any`` -> probability from which on a text is blocked."""
        return dict(zip(self.classifier.names, self.classifier.calibrated.thresholds.tolist(), strict=True))

    def judge(self, text: str) -> Judgement:
        """Probabilities of a text; of several windows those of the worst."""
        found = self.classifier.probabilities(self.reader.read([text]), [text])[0].tolist()
        return Judgement(found[0], dict(zip(self.classifier.names[1:], found[1:], strict=True)))

    @property
    def identity(self) -> str:
        """sha256 (hex) of all that its answers depend on."""
        hasher = sha256(self._decoder.encode())
        for array in (*self.classifier.heads, *self.classifier.calibrated, self.classifier.words.weights, self.classifier.words.bias):
            hasher.update(array.tobytes())
        return hasher.hexdigest()
