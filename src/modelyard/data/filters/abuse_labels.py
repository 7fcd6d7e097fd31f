"""People's labels of harm, as a file that the user names: eight categories (Markov et al. 2023), each 1, 0 or not looked at.

One JSON object a line, plain or ``.gz``: the text as ``prompt`` or ``text``, and any of the keys S, H, V, HR, SH, S3, H2, V2. A category
that nobody looked at is taken as 0 where no category of the text is 1, and is left out of that category's training otherwise. Left out:
other taxonomies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus.document import DataError
from modelyard.data.filters import duplicates
from modelyard.data.filters.duplicates import DuplicatesConfig
from modelyard.formats.feedback import json_lines, record
from modelyard.store.file_hash import require_sha256
from modelyard.store.inputs import find_input

CATEGORIES = {
    "S": "sexual",
    "H": "hate",
    "V": "violence",
    "HR": "harassment",
    "SH": "self-harm",
    "S3": "sexual/minors",
    "H2": "hate/threatening",
    "V2": "violence/graphic",
}
UNKNOWN = -1
_LEAST = 10
"""Texts of each class: half of them must be left for the three folds of the calibration."""
_NEAR = DuplicatesConfig(permutations=128, bands=64, shingle=3, threshold=0.3)
"""Looser than the corpus's: a text that shares a third of its shingles with one trained on has been seen."""


class LabelsConfig(Config):
    """Where the labels are."""

    path: str
    """JSON lines, plain or ``.gz``; a relative path starts beside the config, else at ``execution.inputs``."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Hash of the file; another file is refused."""
    licence: str = Field(min_length=1)
    """Its licence."""


class _Row(Config):
    prompt: str = ""
    text: str = ""
    S: int | None = Field(default=None, ge=0, le=1)
    H: int | None = Field(default=None, ge=0, le=1)
    V: int | None = Field(default=None, ge=0, le=1)
    HR: int | None = Field(default=None, ge=0, le=1)
    SH: int | None = Field(default=None, ge=0, le=1)
    S3: int | None = Field(default=None, ge=0, le=1)
    H2: int | None = Field(default=None, ge=0, le=1)
    V2: int | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _has_text(self) -> _Row:
        if bool(self.prompt) == bool(self.text):
            raise ValueError("needs one of prompt and text")
        return self


class Labelled(NamedTuple):
    """Texts and what is known of them."""

    texts: list[str]
    labels: npt.NDArray[np.int8]
    """[texts, 8] in the order of CATEGORIES: 1, 0 or UNKNOWN."""

    @property
    def harmful(self) -> npt.NDArray[np.bool_]:
        """[texts] whether any category is 1."""
        return np.asarray((self.labels == 1).any(1))

    def some(self, which: npt.NDArray[np.bool_]) -> Labelled:
        """The rows of a mask."""
        return Labelled([text for text, wanted in zip(self.texts, which, strict=True) if wanted], self.labels[which])


def read(config: LabelsConfig, roots: Sequence[str] = ("",)) -> Labelled:
    """The labelled texts, looked for below ``roots``. Raises DataError naming the file and the line, or a category that nothing can be learned of."""
    try:
        path = find_input(config.path, roots, "filters.abuse.labels")
        require_sha256(path, config.sha256, "filters.abuse.labels")
        rows = [record(_Row, line) for line in json_lines(path)]
    except ValueError as error:
        raise DataError(str(error)) from None
    texts = [row.prompt or row.text for row in rows]
    labels = np.array([[UNKNOWN if (value := getattr(row, key)) is None else value for key in CATEGORIES] for row in rows], np.int8)
    found = Labelled(texts, labels.reshape(len(rows), len(CATEGORIES)))
    found.labels[(found.labels == UNKNOWN) & ~found.harmful[:, None]] = 0
    for key, column in zip(CATEGORIES, found.labels.T, strict=True):
        if min((column == 1).sum(), (column == 0).sum()) < _LEAST:
            raise DataError(f"{path}: {key} ({CATEGORIES[key]}): {_LEAST} texts with 1 and as many with 0 are the least to learn from")
    return found


def groups(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """[texts] number of each text's group of near duplicates: the index of the group's first text."""
    keys = [duplicates.exact_key(text) for text in texts]
    copies = duplicates.find(keys, duplicates.signatures(list(texts), _NEAR), _NEAR)
    found = np.arange(len(texts))
    for index, copy in enumerate(copies):
        if copy is not None:
            found[index] = found[copy.original]
    return found


def first_half(texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """[texts] half of the groups of near duplicates, drawn by the hash of each group's first text.

    The hash has a prefix of its own: a file may itself be what a plain hash of the texts selected.
    """
    return np.array([hashlib.sha256(b"half\0" + texts[first].encode()).digest()[0] < 128 for first in groups(texts)], bool)
