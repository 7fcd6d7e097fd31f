"""Packed rows read from token files, against the stream laid out in memory."""

import numpy as np
import pytest

from modelyard.formats.indexed import IndexedWriter
from modelyard.formats.token_rows import INFO, Order, PackedRows, RowsInfo, TokenRows, read_by, write_order, write_rows

SIZES = ((5, 1, 40, 2), (3, 17))
"""Tokens of the documents of two files."""
ORDER = [(1, 1), (0, 2), (0, 0), (1, 1), (0, 1), (0, 3), (1, 0), (0, 2), (0, 1)]


def _artifact(directory, vocabulary, seq_len, order, masks=None):
    """Two files of documents, and the stream that ``order`` (file, document) lays out."""
    rng = np.random.default_rng(0)
    texts = [[rng.integers(1, vocabulary, size) for size in sizes] for sizes in SIZES]
    for number, documents in enumerate(texts):
        with IndexedWriter(directory / f"train_{number}", vocabulary) as writer:
            for document in documents:
                writer.add(document)
    stream = np.concatenate([texts[file][document] for file, document in order])
    lengths = np.array([len(texts[file][document]) for file, document in order], np.int64)
    files, documents = (np.array(column) for column in zip(*order, strict=True))
    write_order(directory, "train", Order(files.astype(np.uint16), documents.astype(np.int64), lengths))
    named = {"train": ["train_0", "train_1"]}
    info = RowsInfo(seq_len=seq_len, separator=0, vocabulary=vocabulary, files=named, document_masks=masks)
    (directory / INFO).write_text(info.model_dump_json())
    return stream


@pytest.mark.parametrize(("vocabulary", "dtype"), [(1 << 16, np.uint16), (152_064, np.int32)])
@pytest.mark.parametrize("seq_len", [2, 6, 90])
def test_token_rows_are_the_stream_cut_into_rows(tmp_path, vocabulary, dtype, seq_len):
    stream = _artifact(tmp_path, vocabulary, seq_len, ORDER)
    rows = TokenRows(tmp_path, "train")
    count = len(stream) // (seq_len + 1)
    assert len(rows) == count >= 1
    whole = stream[: count * (seq_len + 1)].reshape(count, seq_len + 1)
    assert rows[:].tokens.dtype == dtype
    assert rows[:].documents is None
    assert np.array_equal(rows[:].tokens, whole)
    assert whole.max() >= 1 << 15, "ids that need all their bits"
    some = [count - 1, 0, count // 2, 0]
    assert np.array_equal(rows[some].tokens, whole[some])
    assert np.array_equal(rows[np.array(some)].tokens, whole[some])
    assert rows[count:].tokens.shape == (0, seq_len + 1)
    with pytest.raises(IndexError):
        rows[[count]]


def test_token_rows_that_were_packed_elsewhere_come_back_as_they_are(tmp_path):
    packed = np.random.default_rng(0).integers(0, 300, (7, 9))
    write_rows(tmp_path, {"train": packed, "validation": packed[:2]}, vocabulary=300, separator=0)
    assert np.array_equal(TokenRows(tmp_path, "train")[:].tokens, packed)
    assert np.array_equal(TokenRows(tmp_path, "validation")[:].tokens, packed[:2])


def _owners(masks):
    """The document of each token of the stream; a separator is the next one's where it opens it."""
    owners = []
    for number, (file, document) in enumerate(ORDER):
        size = SIZES[file][document]
        owners += [number] * size if masks == "after_end" else [number] * (size - 1) + [number + 1]
    return np.array(owners)


@pytest.mark.parametrize("masks", ["at_end", "after_end"])
@pytest.mark.parametrize("seq_len", [2, 6, 13, 90])
def test_token_rows_of_documents_kept_apart_say_whose_each_token_is(tmp_path, seq_len, masks):
    """By the files' boundaries: no separator is among these tokens."""
    stream = _artifact(tmp_path, 1 << 16, seq_len, ORDER, masks)
    rows, width = TokenRows(tmp_path, "train"), seq_len + 1
    found, owners = rows[:], _owners(masks)
    whole = owners[: len(rows) * width].reshape(-1, width)
    assert np.array_equal(found.tokens, stream[: whole.size].reshape(whole.shape))
    assert np.array_equal(np.diff(found.documents, axis=1), np.diff(whole, axis=1))
    assert found.documents.min() >= 0
    assert np.array_equal(rows[[len(rows) - 1, 0]].documents, found.documents[[-1, 0]])
    assert np.array_equal(found[1:].cut(2).documents, found.documents[1:, :2])
    assert rows[len(rows) :].documents.shape == (0, width)
    position = seq_len // 2 + 1
    seen = [row[:position][of[:position] == of[position - 1]].tolist() for row, of in zip(found.tokens, whole, strict=True)]
    assert found.before(position) == seen
    assert PackedRows(found.tokens).before(position) == found.tokens[:, :position].tolist()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda d: (d / "train_start.npy").unlink(), "train_start.npy: cannot be read"),
        (lambda d: (d / "train_0.idx").write_bytes(b"MMIDIDX"), "train_0.idx: no index of token files"),
        (lambda d: (d / INFO).write_text('{"seq_len": 4}'), "rows.json: separator"),
        (lambda d: np.save(d / "train_start.npy", np.array([0, 3])), "the train split has no row of 7 tokens"),
    ],
)
def test_token_rows_damaged_artifact_is_one_line_naming_the_file(tmp_path, broken, message):
    _artifact(tmp_path, 300, 6, [(0, 2)])
    broken(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        TokenRows(tmp_path, "train")
    assert "\n" not in str(caught.value)


def test_token_rows_need_of_the_token_files_only_those_that_their_order_names(tmp_path):
    stream = _artifact(tmp_path, 300, 6, [(1, 1), (1, 0), (1, 1)])
    names = sorted(file.name for file in tmp_path.iterdir())
    needed = read_by("train")(names, lambda name: (tmp_path / name).read_bytes())
    assert set(names) - set(needed) == {"train_0.bin", "train_0.idx"}
    assert {"train_1.bin", "train_1.idx"}.isdisjoint(read_by()(names, lambda name: (tmp_path / name).read_bytes()))
    for name in set(names) - set(needed):
        (tmp_path / name).unlink()
    assert np.array_equal(TokenRows(tmp_path, "train")[:].tokens.reshape(-1), stream[: len(stream) // 7 * 7])
    (tmp_path / "train_1.idx").unlink()
    with pytest.raises(ValueError, match=r"train_1.idx: no index of token files"):
        TokenRows(tmp_path, "train")[[0]]
