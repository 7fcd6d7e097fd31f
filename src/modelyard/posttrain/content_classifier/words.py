"""TF-IDF over words and pairs of words, and one L2 logistic regression a category (scikit-learn): what the heads are measured beside.

What a text says in so many words; the heads read what it means. Both together are what serves where the config asks for it. Left out: other
scripts than those whose words are spaced.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from modelyard.formats import json_file

VOCABULARY = "words.json"
STRENGTH = 30.0
"""Inverse of the L2 penalty, the abuse filter's."""
Reals = npt.NDArray[np.float64]


class Words:
    """A trained baseline."""

    def __init__(self, vectorizer: Any, weights: Reals, bias: Reals) -> None:
        """``weights`` [C, V], ``bias`` [C]."""
        self._vectorizer, self.weights, self.bias = vectorizer, weights, bias

    def logits(self, texts: Sequence[str]) -> Reals:
        """Log-odds [texts, C]."""
        return np.asarray(self._vectorizer.transform(texts) @ self.weights.T + self.bias)

    def save(self, directory: Path) -> dict[str, Reals]:
        """Write the vocabulary; the arrays that belong beside it."""
        words = self._vectorizer.get_feature_names_out().tolist()
        (directory / VOCABULARY).write_text(json.dumps(words, ensure_ascii=False), "utf-8")
        return {"word_weights": self.weights, "word_bias": self.bias, "word_idf": np.asarray(self._vectorizer.idf_)}


def vectorizer(vocabulary: Sequence[str] | None = None) -> Any:
    """scikit-learn's, as it is trained and as it is read again."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    given = {} if vocabulary is None else {"vocabulary": {word: number for number, word in enumerate(vocabulary)}}
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", strip_accents="unicode", **given)


def fit(texts: Sequence[str], labels: npt.NDArray[np.int8]) -> Words:
    """``labels`` [texts, C]: 1, 0 or -1 for not known; a category whose known labels are all alike gets its odds and no weights."""
    from sklearn.linear_model import LogisticRegression

    made = vectorizer()
    matrix = made.fit_transform(texts)
    weights, bias = np.zeros((labels.shape[1], matrix.shape[1])), np.zeros(labels.shape[1])
    for number, column in enumerate(labels.T):
        known = np.flatnonzero(column >= 0)
        if len(set(column[known].tolist())) < 2:
            bias[number] = np.log((np.sum(column == 1) + 0.5) / (np.sum(column == 0) + 0.5))
            continue
        model = LogisticRegression(C=STRENGTH, solver="liblinear", random_state=0, max_iter=200)
        model.fit(matrix[known], column[known])
        weights[number], bias[number] = model.coef_[0], model.intercept_[0]
    return Words(made, weights, bias)


def load(directory: Path, stored: dict[str, Reals]) -> Words:
    """What :meth:`Words.save` wrote. Raises ValueError naming the file."""
    words = json_file.read(directory / VOCABULARY, TypeAdapter(list[str]))
    if stored["word_weights"].shape[1] != len(words) or stored["word_idf"].shape != (len(words),):
        raise ValueError(f"{directory / VOCABULARY}: its {len(words)} words are not those of the weights")
    made = vectorizer(words)
    made.idf_ = stored["word_idf"]
    return Words(made, stored["word_weights"], stored["word_bias"])
