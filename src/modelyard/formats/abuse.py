"""How abusive is a text? The classifier and lexicon that the data stage trains, as a value in a file (``abuse.npz`` of the corpus).

Below the stages because two of them score with it: data refuses documents, evals counts toxic completions, and stages never import each
other. L2 logistic regression over hashed word 1-2-grams; training, operating points and the limits of its second-hand labels are the data
stage's (``data.filters.abuse``). Left out: other languages and harms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from modelyard.config import complaint

BUCKETS = 1 << 16
FILE = "abuse.npz"
WORD = re.compile(r"[a-z']+")
_LEET = str.maketrans("013457@$!", "oieastasi")


def features(words: list[str]) -> npt.NDArray[np.int64]:
    """Distinct hashed word 1- and 2-grams; crc32 because Python's hash changes from process to process."""
    grams = {*words, *(f"{a} {b}" for a, b in pairwise(words))}
    return np.array(sorted({crc32(gram.encode()) % BUCKETS for gram in grams}), dtype=np.int64)


@dataclass(frozen=True)
class AbuseModel:
    """The trained classifier and lexicon."""

    words: frozenset[str]
    """Lexicon, lower case."""
    weights: npt.NDArray[np.float32]
    """[BUCKETS] weights of the logistic regression."""
    bias: float
    """Its intercept."""
    allowed: frozenset[str]
    """Words that it does not see."""

    def probability(self, text: str) -> float:
        """Classifier's probability that the text is abusive."""
        index = features([word for word in WORD.findall(text.lower()) if word not in self.allowed])
        if not index.size:
            return 0.0
        score = float(self.weights[index].sum() / np.sqrt(index.size)) + self.bias
        return float(1.0 / (1.0 + np.exp(-score)))

    def word(self, text: str) -> str | None:
        """The first lexicon word of the text, as written or with digits read as letters."""
        lower = text.lower()
        for form in (lower, lower.translate(_LEET)):
            for token in WORD.findall(form):
                if token in self.words:
                    return str(token)
        return None

    @property
    def identity(self) -> str:
        """sha256 (hex) of all that its answers depend on."""
        hasher = sha256(self.weights.tobytes() + repr(self.bias).encode())
        hasher.update("\n".join([*sorted(self.words), "", *sorted(self.allowed)]).encode())
        return hasher.hexdigest()

    def save(self, directory: Path) -> None:
        """Write ``abuse.npz``."""
        words, allowed = (np.array(sorted(group), dtype=np.str_) for group in (self.words, self.allowed))
        np.savez_compressed(directory / FILE, words=words, weights=self.weights, bias=np.float64(self.bias), allowed=allowed)


def load(directory: Path) -> AbuseModel:
    """Read ``abuse.npz``; raises ValueError when it is not there or is no such file."""
    path = directory / FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the corpus carries the abuse model that toxicity is judged by")
    try:
        with np.load(path, allow_pickle=False) as stored:
            words, allowed = (frozenset(str(word) for word in stored[key]) for key in ("words", "allowed"))
            return AbuseModel(words, stored["weights"].astype(np.float32), float(stored["bias"]), allowed)
    except Exception as error:  # numpy and zipfile raise a dozen types for damaged bytes
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {complaint(error)})") from None
