"""A checkpoint's table of contents is a pickle: real ones pass, everything that would run something is refused before torch sees it."""

import os
import pickle

import pytest
import torch
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint import save as dcp_save

from modelyard.model.checkpoints.metadata_check import check
from modelyard.model.hf.weights import read_checkpoint


class Planted:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


@pytest.fixture
def checkpoint(tmp_path):
    tensors = {f"model.{dtype}": torch.ones(3, 2, dtype=dtype) for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.uint8)}
    dcp_save(tensors, storage_writer=FileSystemWriter(tmp_path / "made", single_file_per_rank=True), no_dist=True)
    return tmp_path / "made"


def test_table_of_contents_as_torch_writes_it_is_read(checkpoint):
    check(checkpoint)
    assert sorted(read_checkpoint(checkpoint)) == ["torch.bfloat16", "torch.float32", "torch.int64", "torch.uint8"]


def test_table_of_contents_that_would_run_something_is_refused_and_does_not_run(checkpoint, tmp_path):
    (checkpoint / ".metadata").write_bytes(pickle.dumps(Planted(tmp_path / "planted")))
    for read in (check, read_checkpoint):
        with pytest.raises(ValueError, match=r"\.metadata: names posix\.system, which no table of contents needs; it is not read$"):
            read(checkpoint)
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"no pickle", b"cbuiltins\neval\n(S'1'\ntR."])
def test_table_of_contents_damaged_or_missing_is_one_line(checkpoint, data):
    (checkpoint / ".metadata").write_bytes(data)
    with pytest.raises(ValueError, match=r"^\S+\.metadata: [^\n]+$"):
        check(checkpoint)
    (checkpoint / ".metadata").unlink()
    with pytest.raises(ValueError, match=r"\.metadata: no such file"):
        check(checkpoint)
