"""Builds the ``tokens`` artifact: a tokenizer, token files of every source, and the order in which their documents are packed.

The tokenizer is trained on the training split, sampled by the mixture's own weights, or it is the imported base model's. Files are megatron-core's
(:mod:`modelyard.formats.indexed`), one pair for each split and source, and hold each document once with the token that ends it (and BOS where the tokenizer adds one); how often a document
is read is the mixture's business. Documents are streamed, so memory is that of a batch and of one number a document. Documents of the ``test`` split
are in no file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, model_validator
from tokenizers import Tokenizer

from modelyard.config import Config
from modelyard.data.corpus.document import DataError, Kind
from modelyard.data.corpus.splits import fraction
from modelyard.data.tokens import packing, spelling, tokenizer
from modelyard.data.tokens.packing import Planned, Share
from modelyard.data.tokens.spelling import Spelling
from modelyard.formats.indexed import IndexedWriter, Integers
from modelyard.formats.token_rows import INFO, Order, RowsInfo, Split, write_order
from modelyard.model.encoder import Encoder
from modelyard.progress import Report

NAME = "tokens"
SPLITS: tuple[Split, ...] = get_args(Split)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_BATCH = 1000


class _Rows(Config):
    """What both kinds of token files need."""

    seed: int
    """Of every shuffle and sample."""
    seq_len: int = Field(ge=2)
    """Tokens a model sees at once; rows hold one more."""
    train_tokens: int = Field(ge=2)
    """Token budget of the training rows; less where every epochs cap binds."""
    temperature: float | None = Field(default=None, gt=0)
    """1: shares as the sources are, times their weights; larger: more even; absent: the weights alone are the shares."""
    mixture: dict[str, Share]
    """Source, or kind for all its sources that have no entry of their own -> weight and epochs cap; what has neither gives nothing."""

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

    @model_validator(mode="after")
    def _vocabulary(self) -> TokensConfig:
        if self.vocab_size <= 256 + len(tokenizer.SPECIAL_TOKENS):
            raise ValueError(f"vocab_size must be over {256 + len(tokenizer.SPECIAL_TOKENS)}, got {self.vocab_size}")
        return self


class BaseTokensConfig(_Rows):
    """Token files of an imported model's own tokens: what it was pretrained on is seldom known, and the corpus stands for it."""

    tokenizer: Literal["base"] = "base"
    """The imported model's tokenizer."""


def run(config: TokensConfig | BaseTokensConfig, inputs: Mapping[str, Path], out: Path, report: Report) -> dict[str, float]:
    """Write the tokens of ``inputs["corpus"]``, by the tokenizer of ``inputs["imported"]`` or one that is trained on it.

    Raises:
        DataError: a source of the mixture has no training document, or a split gives no row.
    """
    corpus = inputs["corpus"]
    if isinstance(config, TokensConfig):
        bpe = tokenizer.train(_sample(corpus, config), config.vocab_size)
        tokenizer.save(bpe, out, config.seq_len)
    else:
        for name in TOKENIZER_FILES:
            shutil.copyfile(inputs["imported"] / name, out / name)
    encoder = Encoder(out)
    own = Tokenizer.from_file(str(out / TOKENIZER_FILES[0]))
    spell = spelling.trained(own) if isinstance(config, TokensConfig) else spelling.imported(own)
    vocabulary = max(own.get_vocab(with_added_tokens=True).values()) + 1
    written = _write_files(corpus, spell, encoder, vocabulary, out, report)
    train, planned = _mixed(written, config)
    orders = {"train": train, "validation": _held_out(written, config.seed)}
    files = {split: [file.prefix for file in written.files if file.split == split] for split in SPLITS}
    info = RowsInfo(seq_len=config.seq_len, separator=encoder.document_end, vocabulary=vocabulary, files=files)
    (out / INFO).write_text(info.model_dump_json(indent=1) + "\n", "utf-8")
    rows = {}
    for split in SPLITS:
        write_order(out, split, orders[split])
        rows[split] = int(orders[split].lengths.sum()) // (config.seq_len + 1)
        if not rows[split]:
            raise DataError(f"tokens: the {split} split gives no row of {config.seq_len + 1} tokens")
    return _measured(config, out, written, planned, rows, vocabulary, encoder)


class _File(NamedTuple):
    """A written pair of files."""

    prefix: str
    split: Split
    source: str
    kind: str
    lengths: Integers
    """[documents] tokens, the separator included."""


class _Written(NamedTuple):
    """All token files, and bytes and tokens of each ``split/language`` (or ``split/code``)."""

    files: list[_File]
    sizes: dict[str, list[int]]


class _Text(NamedTuple):
    id: str
    split: str
    source: str
    kind: str
    language: str
    text: str


def _texts(corpus: Path) -> Iterator[_Text]:
    """The documents of a corpus that are trained or measured on."""
    for file in sorted((corpus / "documents").glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=_BATCH, columns=list(_Text._fields)):
            columns = (batch.column(name).to_pylist() for name in _Text._fields)
            yield from (text for text in map(_Text._make, zip(*columns, strict=True)) if text.split in SPLITS)


def entry_of(source: str, kind: str, mixture: Mapping[str, Share]) -> str | None:
    """The entry of the mixture that a source belongs to."""
    return next((name for name in (source, kind) if name in mixture), None)


def _sample(corpus: Path, config: TokensConfig) -> Iterator[str]:
    """Training texts, each entry of the mixture up to its share of the tokenizer's budget, chosen by a hash of their ids."""
    sizes: dict[str, int] = {}
    for file in sorted((corpus / "documents").glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=_BATCH, columns=["split", "source", "kind", "text"]):
            lengths = pc.binary_length(batch.column("text")).to_pylist()
            for split, source, kind, size in zip(*(batch.column(n).to_pylist() for n in ("split", "source", "kind")), lengths, strict=True):
                if split == "train" and (entry := entry_of(source, kind, config.mixture)):
                    sizes[entry] = sizes.get(entry, 0) + size
    once = {name: share.model_copy(update={"max_epochs": 1.0}) for name, share in config.mixture.items()}
    planned = packing.plan(sizes, once, int(config.tokenizer_megabytes * 1e6), config.temperature)
    for text in _texts(corpus):
        entry = entry_of(text.source, text.kind, config.mixture)
        share = planned[entry].epochs if entry in planned else 0.0
        if text.split == "train" and fraction(f"{config.seed}:tokenizer:{text.id}") < share:
            yield text.text


def _write_files(corpus: Path, spell: Spelling, encoder: Encoder, vocabulary: int, out: Path, report: Report) -> _Written:
    """Encode every document into the files of its split and source."""
    end = encoder.document_end
    beginning = np.array([token for token in encoder.beginning if token != end], np.int64)  # one document's end may begin the next
    total = sum(pq.ParquetFile(file).metadata.num_rows for file in (corpus / "documents").glob("*.parquet"))
    writers: dict[tuple[Split, str, str], IndexedWriter] = {}
    sizes: dict[str, list[int]] = {}
    done = 0
    with ExitStack() as stack:
        for batch in _batches(_texts(corpus)):
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
        return _Written([_File(writer.prefix.name, *key, writer.lengths) for key, writer in sorted(writers.items())], sizes)


def _batches(texts: Iterator[_Text]) -> Iterator[list[_Text]]:
    batch: list[_Text] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _mixed(written: _Written, config: TokensConfig | BaseTokensConfig) -> tuple[Order, dict[str, Planned]]:
    """The training documents as the mixture has them, all shuffled together."""
    files = [file for file in written.files if file.split == "train"]
    entries = [entry_of(file.source, file.kind, config.mixture) for file in files]
    if unknown := sorted(set(config.mixture) - {entry for entry in entries if entry} - set(get_args(Kind))):
        raise DataError(f"tokens.mixture: no training document of source {unknown[0]}")
    available: dict[str, int] = {}
    for file, entry in zip(files, entries, strict=True):
        if entry:
            available[entry] = available.get(entry, 0) + int(file.lengths.sum())
    planned = packing.plan(available, config.mixture, config.train_tokens, config.temperature)
    generator = np.random.default_rng(config.seed)
    parts = []
    for entry, (tokens, _) in planned.items():
        pool = _pooled([(number, file) for number, file in enumerate(files) if entries[number] == entry])
        parts.append(_taken(pool, packing.select(pool.lengths, tokens, generator)))
    whole = _joined(parts)
    return _taken(whole, generator.permutation(len(whole.lengths))), planned


def _held_out(written: _Written, seed: int) -> Order:
    """Every validation document once, in an order of their own, so that the first rows are a sample of all."""
    whole = _pooled(list(enumerate(file for file in written.files if file.split == "validation")))
    return _taken(whole, np.random.default_rng([seed, 1]).permutation(len(whole.lengths)))


def _pooled(files: list[tuple[int, _File]]) -> Order:
    """All documents of some files, one after another."""
    return _joined(
        [
            Order(
                files=np.full(len(file.lengths), number, np.uint16),
                documents=np.arange(len(file.lengths), dtype=np.int64),
                lengths=file.lengths.astype(np.int64),
            )
            for number, file in files
        ]
    )


def _joined(parts: list[Order]) -> Order:
    nothing = Order(files=np.zeros(0, np.uint16), documents=np.zeros(0, np.int64), lengths=np.zeros(0, np.int64))
    return Order(**{key: np.concatenate([getattr(part, key) for part in [nothing, *parts]]) for key in Order._fields})


def _taken(order: Order, chosen: Integers) -> Order:
    return Order(**{key: getattr(order, key)[chosen] for key in Order._fields})


def _measured(
    config: TokensConfig | BaseTokensConfig,
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
