"""Token files as megatron-core reads them, and the rows that the mixture makes of them."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from transformers import AutoTokenizer

from modelyard.data.corpus.document import DataError
from modelyard.data.tokens import token_files
from modelyard.data.tokens.token_files import BaseTokensConfig, CleanTokensConfig, TokensConfig
from modelyard.formats.contamination import write_holding
from modelyard.formats.indexed import IndexedWriter
from modelyard.formats.token_rows import TokenRows
from modelyard.model.encoder import Encoder
from modelyard.progress import silent

SHARES = {"books": {"weight": 3.0, "max_epochs": 1.0}, "text": {"weight": 1.0, "max_epochs": 2.0}}
CONFIG = TokensConfig.model_validate(
    {"vocab_size": 300, "seq_len": 16, "train_tokens": 6000, "tokenizer_megabytes": 1.0, "seed": 0, "mixture": SHARES}
)


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


def _documents():
    return [
        {"id": f"{source}-{n}", "split": ("test", "validation", "train", "train", "train")[n % 5], "source": source, "kind": kind}
        | {"language": language, "text": f"{source} number {n} says: caf\u00e9 {n * 37} times \u2713"}
        for source, kind, language in (("books", "text", "en"), ("web", "text", "en"), ("repo", "code", "python"))
        for n in range(60)
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    directory = tmp_path_factory.mktemp("corpus")
    (directory / "documents").mkdir()
    rows = _documents()
    for part, chosen in enumerate((rows[:70], rows[70:])):
        pq.write_table(pa.Table.from_pylist(chosen), directory / "documents" / f"{part}.parquet")
    return directory


def _texts(source, split):
    return [row["text"] for row in _documents() if row["source"] == source and row["split"] == split]


def test_token_files_hold_every_document_once_and_rows_are_the_mixture(corpus, tmp_path):
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    metrics = token_files.run(CONFIG, {"corpus": corpus}, tmp_path, silent)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for split in ("train", "validation"):
        read = IndexedDataset(str(tmp_path / f"{split}_repo"))
        assert [tokenizer.decode(read[index][:-1]) for index in range(len(read))] == _texts("repo", split)
        assert all(read[index][-1] == 0 for index in range(len(read)))
    assert not list(tmp_path.glob("test*"))
    statistics = json.loads((tmp_path / "statistics.json").read_text())
    assert set(statistics["bytes_per_token"]) == {"train/en", "train/code", "validation/en", "validation/code"}
    assert metrics["tokens/epochs/books"] == 1.0, "its cap"
    assert metrics["tokens/epochs/text"] == 2.0, "web: books have an entry of their own"
    stream = TokenRows(tmp_path, "train")[:].tokens.reshape(-1).tolist()
    pieces = tokenizer.decode(stream).split("<|endoftext|>")[:-1]
    for source, times in (("books", 1), ("web", 2), ("repo", 0)):
        found = [pieces.count(text) for text in _texts(source, "train")]
        assert sum(found) >= times * len(found) - 1, "but for a document that the end of the last row cuts"
        assert max(found) == times
    shown = {split: set(_texts("books", split)) | set(_texts("web", split)) for split in ("train", "validation", "test")}
    assert set(pieces) <= shown["train"]
    held_out = tokenizer.decode(TokenRows(tmp_path, "validation")[:].tokens.reshape(-1).tolist()).split("<|endoftext|>")[:-1]
    assert set(held_out) <= shown["validation"] | set(_texts("repo", "validation"))
    assert len(held_out) == len(set(held_out)) >= 3 * 12 - 1


def test_tokens_of_the_twin_are_the_same_without_the_documents_that_hold_an_item(corpus, tmp_path):
    places = {name: tmp_path / name for name in ("tokens", "contamination", "clean")}
    for place in places.values():
        place.mkdir()
    token_files.run(CONFIG, {"corpus": corpus}, places["tokens"], silent)
    held = [row for row in _documents() if row["id"] in ("books-2", "web-7", "repo-11", "web-4")]
    write_holding(places["contamination"], [row["id"] for row in held])
    shared = CONFIG.model_dump(include=set(CleanTokensConfig.model_fields) - {"tokenizer"})
    token_files.run(CleanTokensConfig.model_validate(shared), {"corpus": corpus, **places}, places["clean"], silent)

    def texts(name, split):
        return (
            AutoTokenizer.from_pretrained(places[name])
            .decode(TokenRows(places[name], split)[:].tokens.reshape(-1).tolist())
            .split("<|endoftext|>")
        )

    assert (places["clean"] / "tokenizer.json").read_bytes() == (places["tokens"] / "tokenizer.json").read_bytes()
    assert texts("clean", "validation") == texts("tokens", "validation"), "what losses are compared on"
    gone = {row["text"] for row in held if row["split"] == "train"}
    assert len(gone) == 3
    assert not gone & set(texts("clean", "train"))
    assert {text for text in texts("tokens", "train") if text.startswith("books")} - gone <= set(texts("clean", "train"))


def test_tokens_tokenizer_spells_special_tokens_and_any_text(corpus, tmp_path):
    token_files.run(CONFIG, {"corpus": corpus}, tmp_path, silent)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    special = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")
    assert [tokenizer.convert_tokens_to_ids(token) for token in special] == [0, 1, 2, 3, 4]
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_dict=False)
    assert tokenizer.decode(ids) == "<|endoftext|><|user|>Hi<|end|><|assistant|>"
    text = "Ünïcode ✓, 1234 digits\n\tand tabs"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_tokens_documents_hold_no_control_token_but_their_end_unless_the_config_says_so(tmp_path):
    (tmp_path / "documents").mkdir()
    chat = "<|user|>How are you {n}?<|end|><|assistant|>Well.<|endoftext|> Bye."
    rows = [row | {"text": chat.format(n=n)} for n, row in enumerate(_documents())]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "documents" / "0.parquet")
    for name, allowed, inside in (("text", (), set()), ("allowed", ("<|user|>", "<|end|>"), {1, 3})):
        out = tmp_path / name
        out.mkdir()
        token_files.run(CONFIG.model_copy(update={"allowed_special": allowed}), {"corpus": tmp_path}, out, silent)
        stream = TokenRows(out, "train")[:].tokens.reshape(-1).tolist()
        assert set(stream) & {1, 2, 3, 4} == inside
        assert Encoder(out).allowed_special == list(allowed)


def test_tokens_with_document_masks_say_where_documents_begin_as_the_tokenizer_does(corpus, tmp_path):
    places = {name: tmp_path / name for name in ("joined", "masked", "bos")}
    for place in places.values():
        place.mkdir()
    token_files.run(CONFIG, {"corpus": corpus}, places["joined"], silent)
    token_files.run(CONFIG.model_copy(update={"document_masks": True}), {"corpus": corpus}, places["masked"], silent)
    spelled = json.loads((places["joined"] / "tokenizer.json").read_text())
    first = {"SpecialToken": {"id": "<|user|>", "type_id": 0}}
    spelled["post_processor"]["single"][0] = first
    spelled["post_processor"]["special_tokens"] = {"<|user|>": {"id": "<|user|>", "ids": [1], "tokens": ["<|user|>"]}}
    imported = tmp_path / "imported"
    shutil.copytree(places["joined"], imported)
    (imported / "tokenizer.json").write_text(json.dumps(spelled))
    shared = CONFIG.model_dump(include=set(BaseTokensConfig.model_fields) - {"tokenizer"})
    own = BaseTokensConfig.model_validate({**shared, "document_masks": True})
    token_files.run(own, {"corpus": corpus, "imported": imported}, places["bos"], silent)

    rows = {name: TokenRows(place, "train")[:] for name, place in places.items()}
    assert rows["joined"].documents is None
    assert np.array_equal(rows["masked"].tokens, rows["joined"].tokens), "masks change no token"
    for name, begins in (("masked", 0), ("bos", 1)):  # the end of the document before, or the tokenizer's BOS
        found = rows[name]
        assert np.array_equal(np.diff(found.documents, axis=1), found.tokens[:, 1:] == begins)
    assert [TokenRows(places[name], "validation").info.document_masks for name in places] == [None, "at_end", "after_end"]


def test_tokens_allowed_special_token_that_is_none_is_refused():
    with pytest.raises(ValidationError, match=r"allowed_special: '<\|stop\|>' is none of <\|endoftext\|>"):
        TokensConfig.model_validate(CONFIG.model_dump() | {"allowed_special": ["<|stop|>"]})


def test_tokens_same_seed_gives_the_same_bytes_and_another_another_order(corpus, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        token_files.run(CONFIG.model_copy(update={"seed": seed}), {"corpus": corpus}, tmp_path / name, silent)
    files = {name: {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in "abc"}
    assert files["a"] == files["b"]
    assert files["a"]["train_document.npy"] != files["c"]["train_document.npy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture": {"films": {"weight": 1.0, "max_epochs": 1.0}}}, "tokens.mixture: no training document of source films"),
        ({"seq_len": 5000, "train_tokens": 6000}, "the train split gives no row of 5001 tokens"),
        ({"mixture": {"review": {"weight": 1.0, "max_epochs": 1.0}}}, "the train split gives no row of 17 tokens"),
    ],
)
def test_tokens_nothing_to_pack_is_one_clear_line(corpus, tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        token_files.run(TokensConfig.model_validate({**CONFIG.model_dump(), **changes}), {"corpus": corpus}, tmp_path, silent)
