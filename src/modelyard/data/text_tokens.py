"""Builds the ``tokens`` artifact of a line with an imported base: a text file as packed rows of that model's own tokens, for the pretraining mix.

What the model was pretrained on is seldom known; this text stands for it, and the model's loss on held-out rows of it says what alignment costs.
Paragraphs are kept whole and separated by the token that ends a text. Left out: mixtures (a corpus stage makes those) and large files.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from modelyard.config import Config
from modelyard.data import packing
from modelyard.data.document import DataError
from modelyard.data.sources import files
from modelyard.data.sources.files import FilesSource
from modelyard.data.splits import fraction
from modelyard.model.encoder import Encoder
from modelyard.progress import Report
from modelyard.store.inputs import find_input

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


class TextTokensConfig(Config):
    """Everything that defines the rows."""

    seed: int
    """Of the split and the order of rows."""
    text: FilesSource
    """The file; a relative path starts at ``execution.inputs``."""
    seq_len: int = Field(ge=2)
    """Tokens of a row, which holds one more."""
    train_tokens: int = Field(ge=2)
    """Most tokens of the training rows."""
    validation: float = Field(gt=0, lt=1)
    """Share of paragraphs held out."""


def run(config: TextTokensConfig, inputs: Mapping[str, Path], out: Path, report: Report, root: str) -> dict[str, float]:
    """Pack the file with the tokenizer of ``inputs["base"]``. Raises DataError where the file cannot be used or gives no row."""
    path = find_input(config.text.path, root, f"text file {config.text.name}")
    documents = files.read(config.text.model_copy(update={"path": str(path)}))
    encoder = Encoder(inputs["base"])
    vocabulary = Tokenizer.from_file(str(inputs["base"] / TOKENIZER_FILES[0])).get_vocab_size()
    if vocabulary > np.iinfo(np.uint16).max + 1:
        raise DataError(f"tokens: the base model has {vocabulary} tokens, rows hold at most {np.iinfo(np.uint16).max + 1}")
    generator = np.random.default_rng(config.seed)
    held = [fraction(f"{config.seed}:validation:{document.group}") < config.validation for document in documents]
    rows = {}
    for split, wanted in (("train", False), ("validation", True)):
        chosen = [document.text for document, out_of in zip(documents, held, strict=True) if out_of == wanted]
        texts = [np.array(encoder.ids(text), np.uint16) for text in chosen]
        packed = packing.pack([texts[i] for i in generator.permutation(len(texts))], config.seq_len, encoder.document_end)
        rows[split] = packed[: max(1, config.train_tokens // (config.seq_len + 1))]
        if not len(packed):
            raise DataError(f"tokens: the {split} split gives no row of {config.seq_len + 1} tokens")
        np.save(out / f"{split}.npy", rows[split])
    for name in TOKENIZER_FILES:
        shutil.copyfile(inputs["base"] / name, out / name)
    report(len(documents), len(documents), unit="document")
    return {f"tokens/{split}/tokens": float(made.size) for split, made in rows.items()} | {"tokens/vocabulary/size": float(vocabulary)}
