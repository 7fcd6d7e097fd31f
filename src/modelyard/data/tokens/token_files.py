"""Tokens of a streamed corpus: a tokenizer, one pair of indexed files for each split and source, the mixture, and compression measured.

Files hold each document once, ending in end-of-text; how often a source is read is the mixture's business (``mixture.json`` gives weights and
epochs as megatron-core's blended datasets take them). Documents are streamed from the corpus' parts, so memory stays that of one batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus.document import DataError
from modelyard.data.corpus.splits import fraction
from modelyard.data.tokens import tokenizer
from modelyard.data.tokens.blend import BlendConfig, blend
from modelyard.data.tokens.indexed import IndexedWriter

_BATCH = 1000


class TokenFilesConfig(Config):
    """Tokenizer and mixture."""

    vocab_size: int
    """Entries, special tokens and bytes included."""
    seq_len: int = Field(gt=1)
    """Longest input of the model; written into the tokenizer's config."""
    tokenizer_megabytes: float = Field(gt=0)
    """Training text that the tokenizer is trained on, a sample by hash."""
    seed: int
    """Of the sample."""
    mixture: BlendConfig
    """How much of each source a model reads."""

    @model_validator(mode="after")
    def _vocabulary(self) -> TokenFilesConfig:
        if self.vocab_size <= 256 + len(tokenizer.SPECIAL_TOKENS):
            raise ValueError(f"vocab_size must be over {256 + len(tokenizer.SPECIAL_TOKENS)}, got {self.vocab_size}")
        return self


class _Text(NamedTuple):
    id: str
    split: str
    source: str
    group: str
    """Language, or ``code``."""
    text: str


def write(corpus: Path, config: TokenFilesConfig, out: Path) -> dict[str, Any]:
    """Write tokenizer, token files and ``mixture.json`` into ``out``; returns what was measured.

    Raises:
        DataError: the mixture names a source that the corpus does not have.
    """
    total = sum(len(text.text) for text in _texts(corpus) if text.split == "train")
    share = config.tokenizer_megabytes * 1e6 / max(1, total)
    sample = (t.text for t in _texts(corpus) if t.split == "train" and fraction(f"{config.seed}:tokenizer:{t.id}") < share)
    bpe = tokenizer.train(sample, config.vocab_size)
    tokenizer.save(bpe, out, config.seq_len)
    writers: dict[str, IndexedWriter] = {}
    sizes: dict[str, list[int]] = {}
    with ExitStack() as stack:
        for batch in _batches(_texts(corpus)):
            encoded = bpe.encode_batch_fast([text.text for text in batch], add_special_tokens=False)
            for text, item in zip(batch, encoded, strict=True):
                name = f"{text.split}_{text.source}"
                if name not in writers:
                    writers[name] = stack.enter_context(IndexedWriter(out / name, bpe.get_vocab_size()))
                writers[name].add(np.array([*item.ids, tokenizer.END_OF_TEXT]))
                size = sizes.setdefault(f"{text.split}/{text.group}", [0, 0])
                size[0] += len(text.text.encode())
                size[1] += len(item.ids)
    available = {name.removeprefix("train_"): writer.tokens for name, writer in writers.items() if name.startswith("train_")}
    if unknown := sorted(set(config.mixture.sources) - set(available)):
        raise DataError(f"tokens.mixture: no training document of source {unknown[0]}")
    planned = blend(available, config.mixture)
    read = max(1, sum(entry.tokens for entry in planned.values()))
    mixture = {name: {"weight": entry.tokens / read, "epochs": entry.epochs, "tokens": entry.tokens} for name, entry in planned.items()}
    (out / "mixture.json").write_text(json.dumps(mixture, indent=1) + "\n", "utf-8")
    return {
        "tokens": {name: writer.tokens for name, writer in sorted(writers.items())},
        "bytes_per_token": {name: byte / max(1, token) for name, (byte, token) in sorted(sizes.items())},
        "mixture": mixture,
        "vocabulary": bpe.get_vocab_size(),
        "chat_template": tokenizer.template_hash(),
    }


def _texts(corpus: Path) -> Iterator[_Text]:
    for file in sorted((corpus / "documents").glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=_BATCH, columns=["id", "split", "source", "kind", "language", "text"]):
            for row in batch.to_pylist():
                group = "code" if row["kind"] == "code" else row["language"]
                yield _Text(row["id"], row["split"], row["source"], group, row["text"])


def _batches(texts: Iterator[_Text]) -> Iterator[list[_Text]]:
    batch: list[_Text] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
