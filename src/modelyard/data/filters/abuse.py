"""Sexual and abusive text: a lexicon AND a classifier (GPT-4 Technical Report: "internally trained classifiers as well
as a lexicon-based approach").

The classifier is trained here, and its labels are second-hand, which is its limit: the packaged SVM of
alt-profanity-check, itself trained on 200,000 human-labelled comments, labels the stage's own tweets and snippets,
copies of them with words of its vocabulary put in, and that vocabulary; an L2 logistic regression over hashed word
1-2-grams learns these labels. Precision and recall are measured against the labels on a held-out fifth of the real
texts and, in the tests, against an independent human-labelled set. Mild and identity words (``allowed``: "stupid",
"gay", "damn") are taken out before labelling, training and scoring: film criticism lives on the first, the packaged
model is prejudiced against the second. The lexicon is better-profanity's list cut to words that the SVM calls
offensive; the full list holds "vodka" and "fat". Left out: other languages, other harms (self-harm, violence), spelling
tricks beyond a few digit substitutions.
"""

from __future__ import annotations

import hashlib
import io
import random
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.config import Config
from modelyard.data.corpus.document import Refusal
from modelyard.data.sources.declared import Source
from modelyard.data.sources.fetch import member
from modelyard.formats.abuse import BUCKETS, WORD, AbuseModel, features
from modelyard.stats.estimate import Estimate, proportion


class AbuseConfig(Config):
    """Training set and operating point."""

    sure: float
    """Classifier probability that refuses alone."""
    suspicious: float
    """Classifier probability that refuses together with a lexicon word."""
    lexicon: float
    """A listed word is kept in the lexicon when the labelling SVM gives it at least this probability alone."""
    training_texts: int
    """Real texts to label, taken in hash order; a fifth of them is only measured on."""
    augmented: int
    """Copies of training texts with offensive or other vocabulary words put in."""
    allowed: list[str]
    """Words that are neither in the lexicon nor seen by the classifier: mild, or names of groups of people."""


@dataclass(frozen=True)
class AbuseFilter(AbuseModel):
    """The trained model with its operating point; a value that workers receive whole."""

    config: AbuseConfig

    def refuse(self, text: str) -> Refusal | None:
        """Refuses by the classifier alone, or by lexicon and classifier together."""
        probability = self.probability(text)
        if probability >= self.config.sure:
            return Refusal("abuse/classifier", f"p={probability:.2f}")
        if probability >= self.config.suspicious and (word := self.word(text)):
            return Refusal("abuse/lexicon_and_classifier", f"{word}, p={probability:.2f}")
        return None


@dataclass(frozen=True)
class Trained:
    """The filter and how well its classifier reproduces its labels on texts it was not trained on."""

    filter: AbuseFilter
    precision: Estimate
    recall: Estimate
    words: int
    """Lexicon size."""


class Teacher:
    """The labelling SVM: probability that a text is offensive."""

    def __init__(self, source: Source, archive: Path) -> None:
        import joblib  # type: ignore[import-untyped]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._vectorizer: Any = joblib.load(io.BytesIO(member(source, archive, "data/vectorizer.joblib")))
            self._model: Any = joblib.load(io.BytesIO(member(source, archive, "data/model.joblib")))

    @property
    def vocabulary(self) -> list[str]:
        """The words that it knows, sorted."""
        return sorted(word for word in self._vectorizer.vocabulary_ if WORD.fullmatch(word))

    def __call__(self, texts: list[str]) -> npt.NDArray[np.float64]:
        """Probabilities, [texts]."""
        return np.asarray(self._model.predict_proba(self._vectorizer.transform(texts))[:, 1])


def lexicon(source: Source, archive: Path) -> list[str]:
    """Words of the packaged list, lower case."""
    lines = member(source, archive, "better_profanity/profanity_wordlist.txt").decode("utf-8").splitlines()
    return sorted({line.strip().lower() for line in lines if WORD.fullmatch(line.strip().lower())})


def train(texts: list[str], words: list[str], teacher: Teacher, config: AbuseConfig) -> Trained:
    """Label ``texts`` with ``teacher``, fit on four fifths of them and on augmented copies, measure on the fifth."""
    allowed = frozenset(config.allowed)
    stripped = {" ".join(word for word in WORD.findall(text.lower()) if word not in allowed) for text in texts}
    chosen = sorted(stripped, key=lambda text: hashlib.sha256(text.encode()).digest())[: config.training_texts]
    held, real = chosen[: len(chosen) // 5], chosen[len(chosen) // 5 :]
    vocabulary = [word for word in teacher.vocabulary if word not in allowed]
    rows = [*real, *vocabulary, *_augmented(real, vocabulary, teacher(vocabulary) >= 0.5, config.augmented)]
    weights, bias = _fit([features(row.split()) for row in rows], teacher(rows) >= 0.5)
    listed = [word for word in words if word not in allowed]
    kept = [word for word, score in zip(listed, teacher(listed), strict=True) if score >= config.lexicon]
    result = AbuseFilter(frozenset(kept), weights, bias, allowed, config)
    predicted = np.array([result.probability(text) >= 0.5 for text in held], dtype=bool)
    truth = teacher(held) >= 0.5 if held else np.zeros(0, bool)
    agree = int((predicted & truth).sum())
    return Trained(result, _share(agree, int(predicted.sum())), _share(agree, int(truth.sum())), len(kept))


def _augmented(texts: list[str], vocabulary: list[str], offensive: npt.NDArray[np.bool_], count: int) -> list[str]:
    """Beginnings of texts with one or two words put in; two of three such words are offensive, so rare ones get a weight too."""
    generator = random.Random(0)
    bad = [word for word, flag in zip(vocabulary, offensive, strict=True) if flag]
    rows = []
    for number in range(count if texts and bad else 0):
        words = generator.choice(texts).split()[:12]
        for _ in range(generator.choice((1, 1, 2))):
            words.insert(generator.randrange(len(words) + 1), generator.choice(bad if number % 3 else vocabulary))
        rows.append(" ".join(words))
    return rows


def _share(hits: int, total: int) -> Estimate:
    return proportion(hits, total) if total else Estimate(0.0, 0.0, 1.0, 0)


def _fit(rows: list[npt.NDArray[np.int64]], labels: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float32], float]:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    pointers = np.concatenate([[0], np.cumsum([row.size for row in rows])])
    values = np.concatenate([np.full(row.size, 1 / np.sqrt(max(1, row.size))) for row in rows])
    matrix = csr_matrix((values, np.concatenate(rows), pointers), shape=(len(rows), BUCKETS))
    model = LogisticRegression(C=10.0, solver="liblinear", random_state=0, max_iter=200)
    model.fit(matrix, labels)
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])
