"""Builds the ``tokens`` artifact: a tokenizer, token files of every source, and the order in which their documents are packed.

The tokenizer is trained on the training split, sampled by the mixture's own weights, or it is the imported base model's.
Files are megatron-core's (:mod:`modelyard.formats.indexed`), one pair for each split and source, and hold each document once
with the token that ends it, and BOS where the tokenizer adds one; how often a document is read is the mixture's business.
Documents are streamed, so memory is that of a batch and of one number a document. Documents of the ``test`` split are in no
file; the twin that never saw a benchmark item has none that holds one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.data.corpus.document import DataError
from modelyard.data.corpus.splits import fraction
from modelyard.data.tokens import order, packing, spelling, tokenizer
from modelyard.data.tokens.order import TokenFile
from modelyard.data.tokens.packing import Planned, Share
from modelyard.data.tokens.spelling import Spelling
from modelyard.formats import tokenizer_files
from modelyard.formats.contamination import read_holding
from modelyard.formats.indexed import IndexedWriter
from modelyard.formats.token_rows import INFO, DocumentMasks, RowsInfo, Split, write_order
from modelyard.model import control_tokens
from modelyard.model.encoder import Encoder
from modelyard.progress import Report

NAME = "tokens"
SPLITS: tuple[Split, ...] = get_args(Split)
_BATCH = 1000


class _Rows(Config):
    """What both kinds of token files need."""

    seed: int = Field(ge=0)
    """Of every shuffle and sample."""
    seq_len: int = Field(ge=2)
    """Tokens a model sees at once; rows hold one more."""
    train_tokens: int = Field(ge=2)
    """Token budget of the training rows; less where every epochs cap binds."""
    temperature: float | None = Field(default=None, gt=0)
    """1: shares as the sources are, times their weights; larger: more even; absent: the weights alone are the shares."""
    mixture: dict[str, Share]
    """Source, or kind for all its sources that have no entry of their own -> weight and epochs cap; what has neither gives nothing."""
    document_masks: bool = False
    """Whether the documents of a row are kept apart, attention and positions beginning anew with each, wherever the rows are trained or
    measured on."""

    @model_validator(mode="after")
    def _room(self) -> _Rows:
        if self.train_tokens <= self.seq_len:
            raise ValueError(f"train_tokens {self.train_tokens} must be more than seq_len {self.seq_len}")
        return self


class TokensConfig(_Rows):
    """Token files with a tokenizer of their own."""

    tokenizer: Literal["trained"] = "trained"
    """A tokenizer trained on the corpus."""
    vocab_size: int
    """Entries of the tokenizer, special tokens and bytes included."""
    tokenizer_megabytes: float = Field(gt=0)
    """Most text that the tokenizer is trained on, a sample by hash."""
    allowed_special: tuple[str, ...] = ()
    """Control tokens that text may spell, in documents, prompts and answers alike; any other is encoded as the characters it is."""

    @model_validator(mode="after")
    def _vocabulary(self) -> TokensConfig:
        if unknown := [token for token in self.allowed_special if token not in tokenizer.SPECIAL_TOKENS]:
            raise ValueError(f"allowed_special: {unknown[0]!r} is none of {', '.join(tokenizer.SPECIAL_TOKENS)}")
        if self.vocab_size <= 256 + len(tokenizer.SPECIAL_TOKENS):
            raise ValueError(f"vocab_size must be over {256 + len(tokenizer.SPECIAL_TOKENS)}, got {self.vocab_size}")
        return self


class BaseTokensConfig(_Rows):
    """Token files of an imported model's own tokens: what it was pretrained on is seldom known, and the corpus stands for it."""

    tokenizer: Literal["base"] = "base"
    """The imported model's tokenizer."""


class CleanTokensConfig(_Rows):
    """Token files of a twin that never saw a benchmark item: the same rows to the mixture's letter, by the same tokenizer."""

    tokenizer: Literal["tokens"] = "tokens"
    """That of the line's own tokens, so that losses can be compared."""


Tokens = TokensConfig | BaseTokensConfig | CleanTokensConfig


def run(config: Tokens, inputs: Mapping[str, Path], out: Path, report: Report) -> dict[str, float]:
    """Write the tokens of ``inputs["corpus"]``, by the tokenizer of ``inputs["imported"]`` or one that is trained on it.

    A twin's are by the tokenizer of ``inputs["tokens"]``, without the training documents that ``inputs["contamination"]`` says hold an item.

    Raises:
        DataError: a source of the mixture has no training document, or a split gives no row.
    """
    corpus = inputs["corpus"]
    if isinstance(config, TokensConfig):
        bpe = tokenizer.train(_sample(corpus, config), config.vocab_size)
        tokenizer.save(bpe, out, config.seq_len)
        control_tokens.allow(out, config.allowed_special)
    else:
        for name in tokenizer_files.FILES:
            shutil.copyfile(inputs["tokens" if isinstance(config, CleanTokensConfig) else "imported"] / name, out / name)
    encoder = Encoder(out)
    own = encoder.text_tokenizer
    spell = spelling.trained(own) if isinstance(config, TokensConfig) else spelling.imported(own)
    vocabulary = max(own.get_vocab(with_added_tokens=True).values()) + 1
    left_out = read_holding(inputs["contamination"]) if isinstance(config, CleanTokensConfig) else frozenset[str]()
    written = _write_files(corpus, left_out, spell, encoder, vocabulary, out, report)
    train, planned = order.mixed(written.files, config.mixture, config.train_tokens, config.temperature, config.seed)
    orders = {"train": train, "validation": order.held_out(written.files, config.seed)}
    files = {split: [file.prefix for file in written.files if file.split == split] for split in SPLITS}
    info = RowsInfo(
        seq_len=config.seq_len,
        separator=encoder.document_end,
        vocabulary=vocabulary,
        files=files,
        document_masks=_masks(encoder) if config.document_masks else None,
    )
    (out / INFO).write_text(info.model_dump_json(indent=1) + "\n", "utf-8")
    rows = {}
    for split in SPLITS:
        write_order(out, split, orders[split])
        rows[split] = int(orders[split].lengths.sum()) // (config.seq_len + 1)
        if not rows[split]:
            raise DataError(f"tokens: the {split} split gives no row of {config.seq_len + 1} tokens")
    return _measured(config, out, written, planned, rows, vocabulary, encoder)


class _Written(NamedTuple):
    """All token files, and bytes and tokens of each ``split/language`` (or ``split/code``)."""

    files: list[TokenFile]
    sizes: dict[str, list[int]]


class _Text(NamedTuple):
    id: str
    split: str
    source: str
    kind: str
    language: str
    text: str


def _texts(corpus: Path, left_out: Container[str] = ()) -> Iterator[_Text]:
    """The documents of a corpus that are trained or measured on, but the training documents ``left_out``."""
    for file in sorted((corpus / "documents").glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=_BATCH, columns=list(_Text._fields)):
            columns = (batch.column(name).to_pylist() for name in _Text._fields)
            for text in map(_Text._make, zip(*columns, strict=True)):
                if text.split in SPLITS and not (text.split == "train" and text.id in left_out):
                    yield text


def _sample(corpus: Path, config: TokensConfig) -> Iterator[str]:
    """Training texts, each entry of the mixture up to its share of the tokenizer's budget, chosen by a hash of their ids."""
    sizes: dict[str, int] = {}
    for file in sorted((corpus / "documents").glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=_BATCH, columns=["split", "source", "kind", "text"]):
            lengths = pc.binary_length(batch.column("text")).to_pylist()
            for split, source, kind, size in zip(*(batch.column(n).to_pylist() for n in ("split", "source", "kind")), lengths, strict=True):
                if split == "train" and (entry := packing.entry_of(source, kind, config.mixture)):
                    sizes[entry] = sizes.get(entry, 0) + size
    once = {name: share.model_copy(update={"max_epochs": 1.0}) for name, share in config.mixture.items()}
    planned = packing.plan(sizes, once, int(config.tokenizer_megabytes * 1e6), config.temperature)
    for text in _texts(corpus):
        entry = packing.entry_of(text.source, text.kind, config.mixture)
        share = planned[entry].epochs if entry in planned else 0.0
        if text.split == "train" and fraction(f"{config.seed}:tokenizer:{text.id}") < share:
            yield text.text


def _beginning(encoder: Encoder) -> list[int]:
    """What is stored before each document: the tokenizer's beginning of a text, but for an end of the document before that is one."""
    return [token for token in encoder.beginning if token != encoder.document_end]


def _masks(encoder: Encoder) -> DocumentMasks:
    """Where a document begins that sees itself alone: as the tokenizer begins a text, with BOS or else with the end of another."""
    return "after_end" if _beginning(encoder) else "at_end"


def _write_files(
    corpus: Path, left_out: Container[str], spell: Spelling, encoder: Encoder, vocabulary: int, out: Path, report: Report
) -> _Written:
    """Encode every document into the files of its split and source."""
    end, beginning = encoder.document_end, np.array(_beginning(encoder), np.int64)
    total = sum(pq.ParquetFile(file).metadata.num_rows for file in (corpus / "documents").glob("*.parquet"))
    writers: dict[tuple[Split, str, str], IndexedWriter] = {}
    sizes: dict[str, list[int]] = {}
    done = 0
    with ExitStack() as stack:
        for batch in _batches(_texts(corpus, left_out)):
            for text, ids in zip(batch, spell([text.text for text in batch]), strict=True):
                key: Any = (text.split, text.source, text.kind)
                if key not in writers:
                    writers[key] = stack.enter_context(IndexedWriter(out / f"{text.split}_{text.source}", vocabulary))
                writers[key].add(np.concatenate((beginning, ids, [end])))
                size = sizes.setdefault(f"{text.split}/{'code' if text.kind == 'code' else text.language}", [0, 0])
                size[0] += len(text.text.encode())
                size[1] += ids.size
            done += len(batch)
            report(done, total, unit="document")
        return _Written([TokenFile(writer.prefix.name, *key, writer.lengths) for key, writer in sorted(writers.items())], sizes)


def _batches(texts: Iterator[_Text]) -> Iterator[list[_Text]]:
    batch: list[_Text] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _measured(
    config: Tokens,
    out: Path,
    written: _Written,
    planned: Mapping[str, Planned],
    rows: Mapping[Split, int],
    vocabulary: int,
    encoder: Encoder,
) -> dict[str, float]:
    """Write ``statistics.json``; the metrics."""
    read = max(1, sum(entry.tokens for entry in planned.values()))
    compression = {name: size / max(1, tokens) for name, (size, tokens) in sorted(written.sizes.items())}
    statistics = {
        "tokens": {file.prefix: int(file.lengths.sum()) for file in written.files},
        "bytes_per_token": compression,
        "mixture": {
            name: {"weight": entry.tokens / read, "epochs": entry.epochs, "tokens": entry.tokens} for name, entry in planned.items()
        },
        "rows": rows,
        "vocabulary": vocabulary,
        "chat_template": encoder.template_hash,
    }
    (out / "statistics.json").write_text(json.dumps(statistics, indent=1) + "\n", "utf-8")
    return {
        **{f"tokens/{split}/tokens": float(count * (config.seq_len + 1)) for split, count in rows.items()},
        "tokens/vocabulary/size": float(vocabulary),
        **{f"tokens/mixture/{name}": entry.tokens / read for name, entry in planned.items()},
        **{f"tokens/epochs/{name}": entry.epochs for name, entry in planned.items()},
        **{f"tokens/bytes_per_token/{name.replace('/', '_')}": value for name, value in compression.items()},
    }
