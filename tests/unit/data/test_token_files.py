"""Indexed token files as megatron-core reads them, and the mixture."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from modelyard.data.tokens.blend import BlendConfig, blend
from modelyard.data.tokens.indexed import IndexedWriter
from tokenizers import Tokenizer

from modelyard.data.corpus.document import DataError
from modelyard.data.tokens import token_files
from modelyard.data.tokens.token_files import TokenFilesConfig


@pytest.mark.parametrize(("vocabulary", "dtype"), [(50_000, np.uint16), (100_000, np.int32)])
def test_indexed_files_are_what_megatron_core_reads(tmp_path, vocabulary, dtype):
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    rng = np.random.default_rng(0)
    documents = [rng.integers(0, vocabulary, size) for size in (5, 1, 300, 42)]
    with IndexedWriter(tmp_path / "train", vocabulary) as writer:
        for document in documents:
            writer.add(document)
    read = IndexedDataset(str(tmp_path / "train"))
    assert len(read) == 4
    assert read.document_indices.tolist() == [0, 1, 2, 3, 4]
    assert read[0].dtype == dtype
    assert all(np.array_equal(read[index], document) for index, document in enumerate(documents))


def test_blend_temperature_evens_out_and_caps_are_shared_out():
    share = {"weight": 1.0, "max_epochs": 4.0}
    available = {"web": 9000, "books": 1000, "code": 100}
    natural = blend(available, BlendConfig(tokens=10_000, temperature=1.0, sources={"web": share, "books": share}))
    assert {name: entry.tokens for name, entry in natural.items()} == {"web": 9000, "books": 1000}
    even = blend(available, BlendConfig(tokens=4000, temperature=2.0, sources={"web": share, "books": share}))
    assert {name: entry.tokens for name, entry in even.items()} == {"web": 3000, "books": 1000}, "sqrt(9) to sqrt(1)"
    capped = blend(available, BlendConfig(tokens=10_000, temperature=1e9, sources={"web": share, "code": share}))
    assert {name: entry.tokens for name, entry in capped.items()} == {"code": 400, "web": 9600}
    assert capped["code"].epochs == 4.0
    assert blend(available, BlendConfig(tokens=100_000, temperature=1.0, sources={"code": share}))["code"].tokens == 400


def test_token_files_hold_every_document_once_with_its_boundary(tmp_path):
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    (tmp_path / "documents").mkdir()
    rows = [
        {"id": f"{source}-{n}", "split": "validation" if n % 5 == 0 else "train", "source": source, "kind": kind, "language": language}
        | {"text": f"{source} number {n} says: caf\u00e9 {n * 37} times"}
        for source, kind, language in (("books", "text", "en"), ("repo", "code", "python"))
        for n in range(20)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "documents" / "0.parquet")
    mixture = {"tokens": 1000, "temperature": 1.0, "sources": {"books": {"weight": 1.0, "max_epochs": 2.0}}}
    config = TokenFilesConfig.model_validate({"vocab_size": 300, "seq_len": 16, "tokenizer_megabytes": 1.0, "seed": 0, "mixture": mixture})
    out = tmp_path / "tokens"
    out.mkdir()
    measured = token_files.write(tmp_path, config, out)
    bpe = Tokenizer.from_file(str(out / "tokenizer.json"))
    for split in ("train", "validation"):
        read = IndexedDataset(str(out / f"{split}_repo"))
        texts = [bpe.decode(read[index][:-1].tolist()) for index in range(len(read))]
        assert texts == [row["text"] for row in rows if row["source"] == "repo" and row["split"] == split]
        assert all(read[index][-1] == 0 for index in range(len(read)))
    assert set(measured["bytes_per_token"]) == {"train/en", "train/code", "validation/en", "validation/code"}
    assert json.loads((out / "mixture.json").read_text())["books"]["epochs"] == pytest.approx(2.0)
    films = BlendConfig.model_validate({**mixture, "sources": {"films": {"weight": 1.0, "max_epochs": 1.0}}})
    with pytest.raises(DataError, match="no training document of source films"):
        token_files.write(tmp_path, config.model_copy(update={"mixture": films}), out)
