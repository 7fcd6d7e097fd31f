"""Builds the ``tokens`` artifact: a trained tokenizer and packed training and validation rows.

The tokenizer sees the training split only, sampled by the same mixture weights as the tokens, so its merges serve what the model reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from pydantic import model_validator
from tokenizers import Tokenizer

from modelyard.config import Config
from modelyard.data.corpus.document import DataError, Kind
from modelyard.data.tokens import packing, tokenizer
from modelyard.data.tokens.packing import Planned, Share, Tokens
from modelyard.progress import Report

_BATCH = 2000
_WIDEST = 1 << 16


class TokensConfig(Config):
    """Everything that defines the token files."""

    tokenizer: Literal["trained"] = "trained"
    """A tokenizer trained on the corpus."""
    seed: int
    """Of every shuffle."""
    vocab_size: int
    """Entries of the tokenizer, special tokens and bytes included."""
    seq_len: int
    """Tokens a model sees at once; rows hold one more."""
    train_tokens: int
    """Token budget of ``train.npy``; less where the epochs caps bind."""
    tokenizer_megabytes: float
    """Most text that the tokenizer is trained on."""
    mixture: dict[Kind, Share]
    """Kind -> weight and epochs cap."""

    @model_validator(mode="after")
    def _sizes(self) -> TokensConfig:
        if not 256 + len(tokenizer.SPECIAL_TOKENS) < self.vocab_size <= _WIDEST:
            raise ValueError(f"vocab_size must be over {256 + len(tokenizer.SPECIAL_TOKENS)} and at most {_WIDEST}, got {self.vocab_size}")
        if self.seq_len < 2 or self.train_tokens <= self.seq_len:
            raise ValueError("seq_len must be at least 2 and train_tokens more than seq_len")
        return self


def run(config: TokensConfig, inputs: Mapping[str, Path], out: Path, report: Report) -> dict[str, float]:
    """Train the tokenizer on ``inputs["corpus"]``, pack both splits. Raises DataError when a split gives no row."""
    splits = texts_of(inputs["corpus"])
    generator = np.random.default_rng(config.seed)
    sample = _sample(splits["train"], config, generator)
    bpe = tokenizer.train(sample, config.vocab_size)
    tokenizer.save(bpe, out, config.seq_len)
    total = sum(len(texts) for kinds in splits.values() for texts in kinds.values())
    done = 0
    encoded: dict[str, dict[Kind, list[Tokens]]] = {}
    for split, kinds in splits.items():
        encoded[split] = {}
        for kind, texts in kinds.items():
            encoded[split][kind] = _encode(bpe, texts)
            done += len(texts)
            report(done, total, unit="document")
    packed = pack_splits(encoded, config.mixture, config.train_tokens, config.seq_len, generator)
    train, validation = (packed.rows[split] for split in ("train", "validation"))
    for split, rows in packed.rows.items():
        np.save(out / f"{split}.npy", rows)
    compression = {
        f"{split}/{kind}": sum(len(t.encode()) for t in texts) / max(1, sum(d.size for d in encoded[split][kind]))
        for split, kinds in splits.items()
        for kind, texts in kinds.items()
    }
    statistics = {
        "bytes_per_token": compression,
        "available_tokens": packed.available,
        "mixture": {kind: value._asdict() for kind, value in packed.mixture.items()},
        "rows": {"train": len(train), "validation": len(validation)},
        "vocabulary": bpe.get_vocab_size(),
        "chat_template": tokenizer.template_hash(),
    }
    (out / "statistics.json").write_text(json.dumps(statistics, indent=1) + "\n", "utf-8")
    return {
        "tokens/train/tokens": float(train.size),
        "tokens/validation/tokens": float(validation.size),
        "tokens/vocabulary/size": float(bpe.get_vocab_size()),
        **{f"tokens/mixture/{kind}": value.tokens / train.size for kind, value in packed.mixture.items()},
        **{f"tokens/epochs/{kind}": value.epochs for kind, value in packed.mixture.items()},
        **{f"tokens/bytes_per_token/{name.replace('/', '_')}": value for name, value in compression.items()},
    }


class Packed(NamedTuple):
    """Both splits as rows, and what went into the training rows."""

    rows: dict[str, Tokens]
    """Split -> [N, S + 1]."""
    available: dict[Kind, int]
    """Training tokens of each kind, separators included."""
    mixture: dict[Kind, Planned]
    """What each kind contributed."""


def pack_splits(
    encoded: Mapping[str, Mapping[Kind, list[Tokens]]],
    mixture: Mapping[Kind, Share],
    budget: int,
    seq_len: int,
    generator: np.random.Generator,
    separator: int = tokenizer.END_OF_TEXT,
) -> Packed:
    """Rows of ``seq_len + 1`` tokens: the mixture of at most ``budget`` training tokens, and all validation documents.

    Raises:
        DataError: a split gives no row.
    """
    train = encoded["train"]
    available = {kind: sum(document.size + 1 for document in documents) for kind, documents in train.items()}
    planned = packing.plan(available, mixture, budget)
    chosen = [d for kind, (tokens, _) in planned.items() for d in packing.select(train[kind], tokens, generator)]
    mixed = packing.pack([chosen[i] for i in generator.permutation(len(chosen))], seq_len, separator)
    held_out = [d for documents in encoded["validation"].values() for d in documents]
    rows = {"train": mixed[generator.permutation(len(mixed))], "validation": packing.pack(held_out, seq_len, separator)}
    for split, made in rows.items():
        if not len(made):
            raise DataError(f"tokens: the {split} split gives no row of {seq_len + 1} tokens")
    return Packed(rows, available, planned)


def texts_of(corpus: Path) -> dict[str, dict[Kind, list[str]]]:
    """Split -> kind -> texts, in the corpus' order; kinds sorted so that shuffles do not depend on that order of kinds."""
    table = pq.read_table(corpus / "documents.parquet", columns=["split", "kind", "text"]).to_pydict()
    found: dict[str, dict[Kind, list[str]]] = {"train": {}, "validation": {}}
    for split, kind, text in sorted(zip(table["split"], table["kind"], table["text"], strict=True), key=lambda row: row[:2]):
        found[split].setdefault(kind, []).append(text)
    return found


def _sample(kinds: dict[Kind, list[str]], config: TokensConfig, generator: np.random.Generator) -> list[str]:
    """Training texts, each kind up to its weight's share of the tokenizer's budget."""
    weights = {kind: config.mixture[kind].weight for kind in kinds if kind in config.mixture}
    sample = []
    for kind, weight in weights.items():
        left = config.tokenizer_megabytes * 1e6 * weight / sum(weights.values())
        for index in generator.permutation(len(kinds[kind])):
            if left <= 0:
                break
            sample.append(kinds[kind][index])
            left -= len(kinds[kind][index])
    return sample


def _encode(bpe: Tokenizer, texts: list[str]) -> list[Tokens]:
    encoded: list[Tokens] = []
    for start in range(0, len(texts), _BATCH):
        batch = bpe.encode_batch_fast(texts[start : start + _BATCH], add_special_tokens=False)
        encoded += [np.array(item.ids, np.uint16) for item in batch]
    return encoded
