"""A trained quality classifier: curated against raw text, as GPT-3 filtered Common Crawl (Brown et al. 2020, appendix A).

Logistic regression over hashed words; a document stays when a Pareto variable exceeds one minus its score, so that most good text and a little of
everything else stays. The variable is drawn from the text's own hash: the same document gets the same answer in any order. Trained here on what
the config calls curated and raw, measured on a held-out fifth. Left out: other features than words.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from modelyard.config import Config
from modelyard.data.corpus.document import Refusal
from modelyard.data.filters import words
from modelyard.stats.estimate import Estimate, proportion

_BITS = 18


class ClassifierConfig(Config):
    """What is good text, and how strict the choice is."""

    curated: list[str]
    """Sources of good text; they are never refused by the classifier."""
    raw: list[str]
    """Sources of unfiltered text that it is told from."""
    documents: int = Field(ge=1)
    """Most documents of each side to train on, the first of each of its sources in turn."""
    pareto: float
    """Shape of the Pareto variable (GPT-3: 9); larger keeps less of what scores low."""


@dataclass(frozen=True)
class QualityClassifier:
    """The trained model; a value that workers receive whole."""

    weights: npt.NDArray[np.float32]
    """[2^18] weight of each hashed word."""
    bias: float
    pareto: float
    curated: frozenset[str]

    def scores(self, texts: list[str]) -> npt.NDArray[np.float64]:
        """Probability that each text is curated, [texts]."""
        return np.asarray(1 / (1 + np.exp(-(np.concatenate([np.zeros(0), *(self._block(block) for _, block in words.blocks(texts))])))))

    def _block(self, block: words.Characters) -> npt.NDArray[np.float64]:
        found = words.words(block, unspaced=True)
        total = np.concatenate([[0.0], np.cumsum(self.weights[found.hashes >> np.uint64(64 - _BITS)], dtype=np.float64)])
        return (total[found.rows[1:]] - total[found.rows[:-1]]) / np.maximum(np.diff(found.rows), 1) + self.bias

    def refuse(self, texts: list[str], sources: list[str]) -> list[Refusal | None]:
        """Refusals of texts whose score their Pareto draw does not reach."""
        return [
            None if source in self.curated or _draw(text, self.pareto) > 1 - score else Refusal("classifier/low_quality", f"p={score:.2f}")
            for text, source, score in zip(texts, sources, self.scores(texts).tolist(), strict=True)
        ]


@dataclass(frozen=True)
class TrainedClassifier:
    """The classifier and how well it tells curated from raw on texts it was not trained on."""

    classifier: QualityClassifier
    precision: Estimate
    recall: Estimate


def train(curated: list[str], raw: list[str], config: ClassifierConfig) -> TrainedClassifier:
    """Fit on four fifths of both, measure on the fifth. Raises ValueError when one side is empty."""
    from sklearn.linear_model import LogisticRegression

    if min(len(curated), len(raw)) < 10:
        raise ValueError(f"classifier: {len(curated)} curated and {len(raw)} raw documents; at least 10 of each are needed")
    texts = [*curated[: config.documents], *raw[: config.documents]]
    labels = np.arange(len(texts)) < min(len(curated), config.documents)
    held = np.array([hashlib.sha256(text.encode()).digest()[0] < 51 for text in texts])
    matrix = _features(texts)
    model = LogisticRegression(C=1000.0, solver="liblinear", random_state=0, max_iter=200, class_weight="balanced")
    model.fit(matrix[~held], labels[~held])
    fitted = QualityClassifier(model.coef_[0].astype(np.float32), float(model.intercept_[0]), config.pareto, frozenset(config.curated))
    predicted = fitted.scores([text for text, out in zip(texts, held, strict=True) if out]) >= 0.5
    truth = labels[held]
    agree = int((predicted & truth).sum())
    return TrainedClassifier(fitted, _share(agree, int(predicted.sum())), _share(agree, int(truth.sum())))


def _features(texts: list[str]) -> Any:
    from scipy.sparse import csr_matrix, vstack

    rows = []
    for _, block in words.blocks(texts):
        found = words.words(block, unspaced=True)
        share = 1 / np.maximum(np.diff(found.rows), 1)[found.documents]
        rows.append(csr_matrix((share, found.hashes >> np.uint64(64 - _BITS), found.rows), shape=(found.rows.size - 1, 1 << _BITS)))
    return vstack(rows, format="csr")


def _share(hits: int, total: int) -> Estimate:
    return proportion(hits, total) if total else Estimate(0.0, 0.0, 1.0, 0)


def _draw(text: str, shape: float) -> float:
    """A Pareto (Lomax) variable, a function of the text."""
    uniform = (int.from_bytes(hashlib.sha256(text.encode()).digest()[8:16]) + 1) / (2**64 + 1)
    return float(uniform ** (-1 / shape) - 1)
