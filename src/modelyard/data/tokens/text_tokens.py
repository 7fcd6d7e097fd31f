"""Builds the ``tokens`` artifact of a line with an imported base: the corpus as packed rows of that model's own tokens.

What the model was pretrained on is seldom known. The corpus stands for it in the pretraining mix of alignment, and is what
continued pretraining trains on. Mixture and packing are those of :mod:`modelyard.data.tokens.line_tokens`; documents are
separated by the token that ends a text of the model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from modelyard.config import Config
from modelyard.data.corpus.document import DataError, Kind
from modelyard.data.tokens.line_tokens import pack_splits, texts_of
from modelyard.data.tokens.packing import Share
from modelyard.model.encoder import Encoder
from modelyard.progress import Report

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
LARGEST = np.iinfo(np.uint16).max + 1
"""Entries of a vocabulary that rows can hold."""


class TextTokensConfig(Config):
    """Everything that defines the rows."""

    tokenizer: Literal["base"] = "base"
    """The imported model's tokenizer."""
    seed: int
    """Of every shuffle."""
    seq_len: int = Field(ge=2)
    """Tokens of a row, which holds one more."""
    train_tokens: int = Field(ge=2)
    """Token budget of the training rows; less where the epochs caps bind."""
    mixture: dict[Kind, Share]
    """Kind -> weight and epochs cap."""


def run(config: TextTokensConfig, inputs: Mapping[str, Path], out: Path, report: Report) -> dict[str, float]:
    """Pack the documents of ``inputs["corpus"]`` with the tokenizer of ``inputs["imported"]``.

    Raises:
        DataError: a vocabulary larger than rows can hold, or a split that gives no row.
    """
    base = inputs["imported"]
    encoder = Encoder(base)
    vocabulary = Tokenizer.from_file(str(base / TOKENIZER_FILES[0])).get_vocab_size()
    if vocabulary > LARGEST:
        raise DataError(f"tokens: the base model has {vocabulary} tokens, rows hold at most {LARGEST}")
    splits = texts_of(inputs["corpus"])
    total = sum(len(texts) for kinds in splits.values() for texts in kinds.values())
    encoded: dict[str, dict[Kind, list[np.ndarray]]] = {}
    done = 0
    for split, kinds in splits.items():
        encoded[split] = {}
        for kind, texts in kinds.items():
            encoded[split][kind] = [np.array(encoder.ids(text), np.uint16) for text in texts]
            done += len(texts)
            report(done, total, unit="document")
    generator = np.random.default_rng(config.seed)
    packed = pack_splits(encoded, config.mixture, config.train_tokens, config.seq_len, generator, encoder.document_end)
    for split, rows in packed.rows.items():
        np.save(out / f"{split}.npy", rows)
    for name in TOKENIZER_FILES:
        shutil.copyfile(base / name, out / name)
    statistics = {
        "available_tokens": packed.available,
        "mixture": {kind: value._asdict() for kind, value in packed.mixture.items()},
        "rows": {split: len(rows) for split, rows in packed.rows.items()},
        "vocabulary": vocabulary,
        "chat_template": encoder.template_hash,
    }
    (out / "statistics.json").write_text(json.dumps(statistics, indent=1) + "\n", "utf-8")
    return {f"tokens/{split}/tokens": float(rows.size) for split, rows in packed.rows.items()} | {
        "tokens/vocabulary/size": float(vocabulary)
    }
