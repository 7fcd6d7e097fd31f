"""Packed rows read from token files, against the stream laid out in memory."""

import numpy as np
import pytest

from modelyard.formats.indexed import IndexedWriter
from modelyard.formats.token_rows import INFO, Order, RowsInfo, TokenRows, write_order, write_rows


def _artifact(directory, vocabulary, seq_len, order):
    """Two files of documents, and the stream that ``order`` (file, document) lays out."""
    rng = np.random.default_rng(0)
    texts = [[rng.integers(1, vocabulary, size) for size in sizes] for sizes in ((5, 1, 40, 2), (3, 17))]
    for number, documents in enumerate(texts):
        with IndexedWriter(directory / f"train_{number}", vocabulary) as writer:
            for document in documents:
                writer.add(document)
    stream = np.concatenate([texts[file][document] for file, document in order])
    lengths = np.array([len(texts[file][document]) for file, document in order], np.int64)
    files, documents = (np.array(column) for column in zip(*order, strict=True))
    write_order(directory, "train", Order(files.astype(np.uint16), documents.astype(np.int64), lengths))
    info = RowsInfo(seq_len=seq_len, separator=0, vocabulary=vocabulary, files={"train": ["train_0", "train_1"]})
    (directory / INFO).write_text(info.model_dump_json())
    return stream


@pytest.mark.parametrize(("vocabulary", "dtype"), [(1 << 16, np.uint16), (152_064, np.int32)])
@pytest.mark.parametrize("seq_len", [2, 6, 90])
def test_token_rows_are_the_stream_cut_into_rows(tmp_path, vocabulary, dtype, seq_len):
    order = [(1, 1), (0, 2), (0, 0), (1, 1), (0, 1), (0, 3), (1, 0), (0, 2), (0, 1)]
    stream = _artifact(tmp_path, vocabulary, seq_len, order)
    rows = TokenRows(tmp_path, "train")
    count = len(stream) // (seq_len + 1)
    assert len(rows) == count >= 1
    whole = stream[: count * (seq_len + 1)].reshape(count, seq_len + 1)
    assert rows[:].dtype == dtype
    assert np.array_equal(rows[:], whole)
    assert whole.max() >= 1 << 15, "ids that need all their bits"
    some = [count - 1, 0, count // 2, 0]
    assert np.array_equal(rows[some], whole[some])
    assert np.array_equal(rows[np.array(some)], whole[some])
    assert rows[count:].shape == (0, seq_len + 1)
    with pytest.raises(IndexError):
        rows[[count]]


def test_token_rows_that_were_packed_elsewhere_come_back_as_they_are(tmp_path):
    packed = np.random.default_rng(0).integers(0, 300, (7, 9))
    write_rows(tmp_path, {"train": packed, "validation": packed[:2]}, vocabulary=300, separator=0)
    assert np.array_equal(TokenRows(tmp_path, "train")[:], packed)
    assert np.array_equal(TokenRows(tmp_path, "validation")[:], packed[:2])


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
